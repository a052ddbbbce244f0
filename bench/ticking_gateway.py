"""`python -m bench.ticking_gateway CONFIG`: a gateway whose event loop is timed.

A task wakes every millisecond. On SIGUSR1 the program prints by how many seconds its latest wake-up since the
last SIGUSR1 was late, while the process was at work: not while the machine gave it no processor.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
import time
from pathlib import Path
from typing import Final

from eksgateway.cli.serve import run

_TICK_S: Final = 0.001


class Ticks:
    def __init__(self) -> None:
        self._latest = 0.0

    async def run(self) -> None:
        while True:
            due, cpu_s = time.monotonic() + _TICK_S, time.process_time()
            await asyncio.sleep(_TICK_S)
            self._latest = max(self._latest, min(time.monotonic() - due, time.process_time() - cpu_s))

    def report(self) -> None:
        print(f"{self._latest:.6f}", flush=True)
        self._latest = 0.0


async def main(config: Path) -> None:
    ticks = Ticks()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, ticks.report)
    ticking = asyncio.create_task(ticks.run())
    try:
        await run(config, stop_on_stdin_eof=True)
    finally:
        ticking.cancel()


if __name__ == "__main__":
    gc.disable()  # as `eksgateway serve`
    asyncio.run(main(Path(sys.argv[1])))
