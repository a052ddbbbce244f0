"""Measures `eksgateway ledger verify`, in events a second."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Final

from bench.large_ledger import build
from bench.report import Ratio
from eksgateway.ledger.queries import EVENTS

_CANCELLATIONS: Final = 60_000  # of three events each


async def measure_verify() -> float:
    """The command's rate ÷ that of a plain SHA-256 loop over the same bytes, each in a process of its own.

    The loop reads the same columns of the same events from SQLite in their order, joins the six texts of each
    and hashes them. It compares nothing, and reads no cancellation. The command's start counts, the loop's
    does not.
    """
    with tempfile.TemporaryDirectory(prefix="eksgateway-bench-") as folder:
        path = Path(folder) / "ledger.db"
        await asyncio.to_thread(build, path, _CANCELLATIONS)
        events, loop_s = map(float, (await _run("bench.verify", str(path))).split())
        began = time.monotonic()
        report = await _run("eksgateway", "ledger", "verify", str(path))
        took_s = time.monotonic() - began
    if not report.startswith(f"Sound: {events:.0f} events"):
        raise RuntimeError(report)
    return loop_s / took_s


async def _run(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", *command, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    return out.decode()


def hash_all(path: str) -> tuple[int, float]:
    """The baseline: the number of events, and the seconds that it took."""
    began, count = time.monotonic(), 0
    with closing(sqlite3.connect(path)) as connection:
        for _, *texts in connection.execute(f"{EVENTS} ORDER BY seq"):
            hashlib.sha256("".join(texts).encode()).hexdigest()
            count += 1
    return count, time.monotonic() - began


RATIOS: Final = (
    Ratio("verify", "ledger verify, events/s ÷ plain SHA-256 loop", "at least", 0.3, 5, measure_verify),
)

if __name__ == "__main__":
    print(*hash_all(sys.argv[1]))
