"""Outcomes, and closings of intents, that could not be written when they were due. Retries them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from eksgateway.clock import Clock
from eksgateway.ledger.database import OperationRejected, StorageError
from eksgateway.ledger.hash_chain import Checkpoint
from eksgateway.ledger.unit_of_work import UnitOfWork
from eksgateway.logs import Log

log = Log(__name__)

RETRY_S: Final = 0.5

# Returns the chain's head if it has written something, and nothing if it was written before.
OwedWrite = Callable[[UnitOfWork], Checkpoint | None]


class Backlog:
    """The newest owed write of each cancellation, kept in memory, because the disk is what fails.

    A crash loses it. The cancellation then has no known outcome, and is followed as such.
    """

    def __init__(self, write: Callable[[str, OwedWrite], Awaitable[None]], clock: Clock) -> None:
        self._write = write
        self._clock = clock
        self._owed: dict[str, OwedWrite] = {}
        self._rejected: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._owed)

    @property
    def waiting(self) -> int:
        """The number of writes that wait for the database, without those that it rejected."""
        return len(self._owed.keys() - self._rejected)

    def add(self, cancellation_id: str, write: OwedWrite) -> None:
        """Retry a write until it succeeds. It must do nothing when it was written before."""
        log.warning("ledger.owed", cancellation_id=cancellation_id)
        self._owed[cancellation_id] = write
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._retry())

    def discard(self, cancellation_id: str) -> None:
        self._owed.pop(cancellation_id, None)
        self._rejected.discard(cancellation_id)

    async def close(self) -> None:
        """Try once more, and log what is lost."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        await self._write_all()
        for cancellation_id in self._owed:
            log.error("ledger.outcome_lost", cancellation_id=cancellation_id)

    async def _retry(self) -> None:
        await self._write_all()
        while self._owed:
            await self._clock.sleep(RETRY_S)
            await self._write_all()

    async def _write_all(self) -> None:
        for cancellation_id, write in list(self._owed.items()):
            try:
                await self._write(cancellation_id, write)
            except OperationRejected as exc:
                if cancellation_id not in self._rejected:
                    log.warning("ledger.owed_refused", cancellation_id=cancellation_id, detail=str(exc))
                    self._rejected.add(cancellation_id)
                continue  # it is retried, and delays no other
            except StorageError:
                return
            except Exception:
                log.exception("ledger.owed_impossible", cancellation_id=cancellation_id)
            if self._owed.get(cancellation_id) is write:
                self.discard(cancellation_id)
