"""A process that opens its ledger, uses up its file descriptors, and then uses the ledger in every way.

It prints the number of cancellations that it has read back.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import sqlite3
import sys
from pathlib import Path

from eksgateway.clock import SystemClock
from eksgateway.errors import LedgerUnavailable
from eksgateway.ledger.protocol import HistoryFilter
from eksgateway.ledger.sql_ledger import open_ledger
from eksgateway.model import CancelRequest, Phase
from eksgateway.settings import LedgerSettings
from support.records import denial, intent, observation, outcome, ref, update


def take_every_descriptor() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
    with contextlib.suppress(OSError):  # EMFILE
        while True:
            os.open("/dev/null", os.O_RDONLY)


async def main(path: Path) -> None:
    settings = LedgerSettings(path=path, commit_timeout_s=30, keep_denials=20)
    ledger = await open_ledger(settings, SystemClock())
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("SELECT * FROM events").fetchall()
    take_every_descriptor()

    async def use(name: str) -> bool:
        request = CancelRequest(ref(name))
        written = await ledger.commit_intent(intent(name, request=request))
        await ledger.record_outcome(written.id, outcome(update=update(id=name)))
        await ledger.record_observation(ref(name), observation(update("Cancelled", id=name)))
        ledger.record_denial(denial(name))
        await ledger.history(HistoryFilter(), 5, "")
        found = await ledger.get(written.id)
        return found is not None and found.phase is Phase.CANCELLED

    read = sum(await asyncio.gather(*(use(str(n)) for n in range(100))))
    other.execute(
        "CREATE TRIGGER refuse BEFORE INSERT ON events WHEN NEW.body LIKE '%token-refused%'"
        " BEGIN SELECT RAISE(ROLLBACK, 'refused'); END"
    )
    with contextlib.suppress(LedgerUnavailable):  # it ends the transaction, as an I/O error does
        await ledger.commit_intent(intent("refused"))
    read += sum(await asyncio.gather(*(use(f"later-{n}") for n in range(100))))
    await ledger.check()
    await ledger.close()
    sys.stdout.write(f"{read}\n")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
