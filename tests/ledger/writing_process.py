"""A process that writes intents as fast as it can, prints the id of each durable one, and is then killed."""

from __future__ import annotations

import asyncio
import itertools
import sys

from eksgateway.clock import SystemClock
from eksgateway.ledger.sql_ledger import open_ledger
from eksgateway.settings import LedgerSettings
from support.records import denial, intent, outcome


async def main(place: str, prefix: str) -> None:
    name = "url" if place.startswith("postgresql:") else "path"
    settings = LedgerSettings.model_validate({name: place, "commit_timeout_s": 30})
    ledger = await open_ledger(settings, SystemClock())
    names = itertools.count()

    async def write() -> None:
        while True:
            name = f"{prefix}{next(names)}"
            cancellation = await ledger.commit_intent(intent(name))
            sys.stdout.write(f"{cancellation.id}\n")
            sys.stdout.flush()
            ledger.record_denial(denial(name))
            await ledger.record_outcome(cancellation.id, outcome())

    await asyncio.gather(*(write() for _ in range(16)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], "".join(sys.argv[2:])))
