"""What the ledger still owes its own record: outcomes, and closings of intents, that could not be
written when they were due. It tries until they are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from eksgateway.clock import Clock
from eksgateway.ledger.database import OperationRejected, StorageError
from eksgateway.ledger.hash_chain import Checkpoint
from eksgateway.ledger.store import Transaction
from eksgateway.logs import Log

log = Log(__name__)

RETRY_S = 0.5

# Gives the chain's head when it has written something.
Debt = Callable[[Transaction], Checkpoint | None]


class Backlog:
    """At most one debt a cancellation: the newest. In memory, because the disk is what fails; after a
    crash such a cancellation is one whose outcome is unknown, and is followed as such.
    """

    def __init__(self, write: Callable[[Debt], Awaitable[None]], clock: Clock) -> None:
        self._write = write
        self._clock = clock
        self._debts: dict[str, Debt] = {}
        self._refused: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._debts)

    @property
    def waiting(self) -> int:
        """How many wait for the database, without those that it refuses one by one."""
        return len(self._debts.keys() - self._refused)

    def owe(self, cancellation_id: str, debt: Debt) -> None:
        """Keep it until it is written. It must do nothing when it was written before."""
        log.warning("ledger.owed", cancellation_id=cancellation_id)
        self._debts[cancellation_id] = debt
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._pay())

    def forgive(self, cancellation_id: str) -> None:
        """Nothing is owed any more."""
        self._debts.pop(cancellation_id, None)
        self._refused.discard(cancellation_id)

    async def close(self) -> None:
        """Try once more, and log what is lost."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        await self._round()
        for cancellation_id in self._debts:
            log.error("ledger.outcome_lost", cancellation_id=cancellation_id)

    async def _pay(self) -> None:
        await self._round()
        while self._debts:
            await self._clock.sleep(RETRY_S)
            await self._round()

    async def _round(self) -> None:
        for cancellation_id, debt in list(self._debts.items()):
            try:
                await self._write(debt)
            except OperationRejected as exc:
                if cancellation_id not in self._refused:
                    log.warning("ledger.owed_refused", cancellation_id=cancellation_id, detail=str(exc))
                    self._refused.add(cancellation_id)
                continue  # it is tried again, and the others do not wait for it
            except StorageError:
                return
            except Exception:
                log.exception("ledger.owed_impossible", cancellation_id=cancellation_id)
            if self._debts.get(cancellation_id) is debt:
                self.forgive(cancellation_id)
