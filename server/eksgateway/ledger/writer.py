"""The ledger's one writer: a thread that commits all waiting operations in one transaction.

    waiting ──(lock held)──► begun ──(COMMIT)──► done
       │                       │  ▲
       │                       │  └─ the batch failed: its parts, in order
       └─ abandoned: skipped   └─ abandoned: may be committed all the same

A batch takes two round trips: the rows that its operations read, and then what they changed in memory.

It is a thread, because a transaction must not end with the task that asked for it. It is only one, because
the database has one write lock and the chain has one end.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

from eksgateway.blocking import run_blocking
from eksgateway.ledger.database import CommitUnknown, Database, StorageError
from eksgateway.ledger.unit_of_work import ReadKeys, UnitOfWork
from eksgateway.ledger.write_operations import CommitFailure, WriteOperation, perform, resolve
from eksgateway.logs import Log

log = Log(__name__)

T = TypeVar("T")

_BATCH: Final = 256  # operations in a transaction, so that the first does not wait for too many others
_SLOW_S: Final = 0.5  # a transaction that fails after more than this has met a disk that hangs


class Writer:
    """Takes operations from the event loop, and reports their results to it after COMMIT."""

    def __init__(self, database: Database, limit: int) -> None:
        self._database = database
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._changed = threading.Condition()  # guards the following, and each operation's two flags
        self._waiting: deque[WriteOperation[Any]] = deque()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="ledger-writer", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[UnitOfWork], T], keys: ReadKeys) -> WriteOperation[T]:
        """Queue work that reads the rows of ``keys``. Raises StorageError when the queue is full or closed.

        The work may run more than once; the changes of an earlier run are then rolled back.
        """
        operation = WriteOperation(work, keys, self._loop.create_future())
        with self._changed:
            if self._closed:
                raise StorageError("the ledger is closed")
            if len(self._waiting) >= self._limit:
                raise StorageError(f"{self._limit} writes are waiting already")
            self._waiting.append(operation)
            self._changed.notify()
        return operation

    async def wait(self, operation: WriteOperation[T], timeout_s: float | None) -> T:
        """Return or raise the result of the work, once it is durable. Raises StorageError.

        After a timeout or a cancellation the operation is abandoned. If it has ``begun``, it may still be,
        or have been, committed.
        """
        try:
            await asyncio.wait({operation.done}, timeout=timeout_s)
        finally:
            if not operation.done.done():
                self._abandon(operation)
        if operation.abandoned:
            raise StorageError(f"not written within {timeout_s} s")
        if operation.error is not None:
            raise operation.error
        return cast("T", operation.value)

    async def close(self, timeout_s: float) -> bool:
        """End the thread after the queued operations. False if it did not end in time."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        await run_blocking(self._thread.join, timeout_s)
        return not self._thread.is_alive()

    def _abandon(self, operation: WriteOperation[Any]) -> None:
        with self._changed:
            operation.abandoned = True
        operation.done.cancel()

    def _run(self) -> None:
        while self._wait_for_work():
            batch = self._take()
            failure = self._commit(batch)
            begun = any(operation.begun for operation in batch)
            if failure is None:
                self._report(batch)
            elif failure.final or (failure.fails_all and not begun):
                self._fail(batch if begun else batch + self._take(), failure)
            else:
                self._retry_in_halves(batch)

    def _wait_for_work(self) -> bool:
        """False when the writer is closed and nothing is queued."""
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            return bool(self._waiting)

    def _take(self) -> list[WriteOperation[Any]]:
        """Take operations from the queue, without those that were abandoned."""
        batch: list[WriteOperation[Any]] = []
        with self._changed:
            while self._waiting and len(batch) < _BATCH:
                operation = self._waiting.popleft()
                if not operation.abandoned:
                    batch.append(operation)
        return batch

    def _commit(self, batch: list[WriteOperation[Any]]) -> CommitFailure | None:
        """Perform operations and commit, without those that were abandoned. Returns why that failed."""
        started = time.monotonic()
        try:
            with self._database.begin_batch(ReadKeys.merge([each.keys for each in batch])) as unit:
                with self._changed:
                    batch[:] = [each for each in batch if not each.abandoned]
                    for operation in batch:
                        operation.begun = True
                perform(unit, batch)
        except Exception as exc:  # noqa: BLE001 (each caller gets it, and the thread goes on)
            slow = time.monotonic() - started > _SLOW_S
            final = slow or isinstance(exc, CommitUnknown)
            return CommitFailure(self._database.explain(exc), final, self._database.fails_every_write(exc))
        return None

    def _retry_in_halves(self, batch: list[WriteOperation[Any]]) -> None:
        """Commit a failed batch in ever smaller parts, so that a write that fails harms no other.

        The rest fails at once where it would meet the same failure: after a final one, or after two single
        writes in a row that every write would meet. (After one it is tried: that write may be too large for
        the disk.)
        """
        failures = 0
        parts = deque(_halve(batch))
        while parts:
            part = [operation for operation in parts.popleft() if not operation.abandoned]
            for operation in part:
                operation.value, operation.error = None, None
            failure = self._commit(part) if part else None
            if failure is None:
                self._report(part)
                failures = 0
            elif len(part) > 1 and not failure.final:
                parts.extendleft(reversed(_halve(part)))
            else:
                failures += failure.fails_all
                if failure.final or failures == 2:
                    self._fail([*part, *(operation for each in parts for operation in each)], failure)
                    return
                self._fail(part, failure)

    def _fail(self, batch: list[WriteOperation[Any]], failure: CommitFailure) -> None:
        for operation in batch:
            operation.error = failure.error()
        if failure.fails_others:
            log.error("ledger.write_failed", reason=failure.reason, operations=len(batch))
        else:
            log.warning("ledger.write_refused", reason=failure.reason)
        self._report(batch)

    def _report(self, batch: list[WriteOperation[Any]]) -> None:
        try:
            self._loop.call_soon_threadsafe(resolve, batch)
        except RuntimeError:  # the loop is closed, so no caller is left
            log.warning("ledger.not_reported", operations=len(batch))


def _halve(batch: list[WriteOperation[Any]]) -> list[list[WriteOperation[Any]]]:
    """Two parts; one of a single operation, which is tried again."""
    middle = len(batch) // 2
    return [part for part in (batch[:middle], batch[middle:]) if part]
