"""The ledger's one writer: a thread that commits everything waiting in one transaction.

    waiting ──(lock held)──► begun ──(COMMIT)──► done
       │                       │
       └─ abandoned: skipped   └─ abandoned: may be committed all the same

A thread and not a task, because a transaction must not depend on the fate of the task that asked
for it; and one only, because SQLite has one write lock and the chain has one end.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from datetime import datetime
from typing import Any, Generic, TypeVar, cast

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError, IntegrityError

from eksgateway.ledger.sqlite import explain
from eksgateway.ledger.store import Transaction
from eksgateway.logs import Log

log = Log(__name__)

T = TypeVar("T")

_BATCH = 256  # operations a transaction, so that the first does not wait for too many others


class StoreFailed(Exception):
    """The database did not do it in time, or at all; the text is for the log."""


class Operation(Generic[T]):
    """One piece of work for the writer. ``begun`` tells whether it may have been committed."""

    def __init__(self, work: Callable[[Transaction], T], done: asyncio.Future[None]) -> None:
        self.work = work
        self.done = done
        self.begun = False
        self.abandoned = False
        self.value: T | None = None
        self.error: Exception | None = None


class Writer:
    """Takes work from the event loop, and tells its end there, after COMMIT."""

    def __init__(self, engine: Engine, now: Callable[[], datetime], limit: int) -> None:
        self._engine = engine
        self._now = now
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._changed = threading.Condition()  # guards what follows, and each operation's two flags
        self._waiting: deque[Operation[Any]] = deque()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="ledger-writer", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[Transaction], T]) -> Operation[T]:
        """Queue work. Raises StoreFailed when the queue is full or closed."""
        operation = Operation(work, self._loop.create_future())
        with self._changed:
            if self._closed:
                raise StoreFailed("the ledger is closed")
            if len(self._waiting) >= self._limit:
                raise StoreFailed(f"{self._limit} writes are waiting already")
            self._waiting.append(operation)
            self._changed.notify()
        return operation

    async def result(self, operation: Operation[T], timeout_s: float | None) -> T:
        """What the work returned or raised, once it is durable. Raises StoreFailed.

        Without an end in time, or when cancelled, the operation is abandoned: then ``begun`` says
        whether it may still be, or have been, committed.
        """
        try:
            await asyncio.wait({operation.done}, timeout=timeout_s)
        finally:
            if not operation.done.done():
                self._abandon(operation)
        if operation.abandoned:
            raise StoreFailed(f"not written within {timeout_s} s")
        if operation.error is not None:
            raise operation.error
        return cast("T", operation.value)

    async def close(self, timeout_s: float) -> bool:
        """End the thread after what is queued; whether it has ended in time."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        await asyncio.to_thread(self._thread.join, timeout_s)
        return not self._thread.is_alive()

    def _abandon(self, operation: Operation[Any]) -> None:
        with self._changed:
            operation.abandoned = True
        operation.done.cancel()

    def _run(self) -> None:
        while self._wait():
            batch: list[Operation[Any]] = []
            try:
                with self._engine.begin() as connection:
                    batch = self._take(begun=True)
                    _perform(Transaction(connection, self._now), batch)
            except Exception as exc:  # noqa: BLE001 (whatever it is, each caller is told, and the thread lives)
                batch = batch or self._take(begun=False)
                self._fail(batch, exc)
            self._tell(batch)

    def _wait(self) -> bool:
        """Until there is work; False when there will be none."""
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            return bool(self._waiting)

    def _take(self, *, begun: bool) -> list[Operation[Any]]:
        """Called with the database's lock held, so that nothing is begun that then has to wait."""
        batch: list[Operation[Any]] = []
        with self._changed:
            while self._waiting and len(batch) < _BATCH:
                operation = self._waiting.popleft()
                if not operation.abandoned:
                    operation.begun = begun
                    batch.append(operation)
        return batch

    def _fail(self, batch: list[Operation[Any]], exc: Exception) -> None:
        reason = explain(exc)
        for operation in batch:
            operation.error = StoreFailed(reason)
        log.error("ledger.write_failed", reason=reason, operations=len(batch))
        self._engine.dispose()  # a connection that failed is not used again

    def _tell(self, batch: list[Operation[Any]]) -> None:
        try:
            self._loop.call_soon_threadsafe(_resolve, batch)
        except RuntimeError:  # the loop is closed: nobody is left to be told
            log.warning("ledger.nobody_told", operations=len(batch))


def _perform(transaction: Transaction, batch: list[Operation[Any]]) -> None:
    for operation in batch:
        try:
            with transaction.savepoint():
                operation.value = operation.work(transaction)
        except DBAPIError as exc:
            if not isinstance(exc, IntegrityError):
                raise  # the database's trouble, not this operation's: nothing of the batch holds
            operation.error = exc
        except Exception as exc:  # noqa: BLE001 (told to its caller; the others go on)
            operation.error = exc


def _resolve(batch: list[Operation[Any]]) -> None:
    for operation in batch:
        if not operation.done.done():
            operation.done.set_result(None)
