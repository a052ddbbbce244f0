"""Measures `eksgateway ledger verify`, in events a second."""

from __future__ import annotations

import asyncio
import hashlib
import re
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
    and hashes them. It compares nothing, and reads no cancellation. The start of both processes counts.
    """
    with tempfile.TemporaryDirectory(prefix="eksgateway-bench-") as folder:
        path = Path(folder) / "ledger.db"
        await asyncio.to_thread(build, path, _CANCELLATIONS)
        loop = await _rate("bench.verify", str(path))
        ours = await _rate("eksgateway", "ledger", "verify", str(path))
    return ours / loop


async def _rate(*command: str) -> float:
    """Events a second of a command that prints their number."""
    began = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", *command, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    took = time.monotonic() - began
    match = re.search(r"([0-9]+) events", out.decode())
    if process.returncode or match is None:
        raise RuntimeError(out.decode())
    return int(match[1]) / took


def hash_all(path: str) -> int:
    """The baseline. Returns the number of events."""
    count = 0
    with closing(sqlite3.connect(path)) as connection:
        for _, *texts in connection.execute(f"{EVENTS} ORDER BY seq"):
            hashlib.sha256("".join(texts).encode()).hexdigest()
            count += 1
    return count


RATIOS: Final = (
    Ratio("verify", "ledger verify, events/s ÷ plain SHA-256 loop", "at least", 0.3, 5, measure_verify),
)

if __name__ == "__main__":
    print(f"{hash_all(sys.argv[1])} events")
