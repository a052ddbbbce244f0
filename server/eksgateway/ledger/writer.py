"""The ledger's one writer: a thread that commits everything waiting in one transaction.

    waiting ──(lock held)──► begun ──(COMMIT)──► done
       │                       │  ▲
       │                       │  └─ the batch failed: each of its operations alone, in order
       └─ abandoned: skipped   └─ abandoned: may be committed all the same

A thread and not a task, because a transaction must not depend on the fate of the task that asked
for it; and one only, because SQLite has one write lock and the chain has one end.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar, cast

from sqlalchemy import Connection, Engine

from eksgateway.blocking import run_blocking
from eksgateway.ledger.hash_chain import Checkpoint
from eksgateway.ledger.sqlite import explain, fails_every_write
from eksgateway.ledger.store import Transaction
from eksgateway.ledger.write_operations import CommitFailure, StorageError, WriteOperation, perform, resolve
from eksgateway.logs import Log

log = Log(__name__)

T = TypeVar("T")

_BATCH = 256  # operations a transaction, so that the first does not wait for too many others
_SLOW_S = 0.5  # a transaction that fails after so long has met a disk that hangs


class Writer:
    """Takes work from the event loop, and reports its end there, after COMMIT.

    ``committed`` is called in the thread after each commit, with the connection and the newest event,
    before any operation of it is reported.
    """

    def __init__(
        self,
        engine: Engine,
        now: Callable[[], datetime],
        limit: int,
        committed: Callable[[Connection, Checkpoint], None],
    ) -> None:
        self._engine = engine
        self._now = now
        self._limit = limit
        self._committed = committed
        self._loop = asyncio.get_running_loop()
        self._connection: Connection | None = None  # the thread's alone, as is the next
        self._suspect = False  # whether the connection has failed
        self._changed = threading.Condition()  # guards what follows, and each operation's two flags
        self._waiting: deque[WriteOperation[Any]] = deque()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="ledger-writer", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[Transaction], T]) -> WriteOperation[T]:
        """Queue work. Raises StorageError when the queue is full or closed.

        The work may be run more than once; what an earlier run wrote is undone then.
        """
        operation = WriteOperation(work, self._loop.create_future())
        with self._changed:
            if self._closed:
                raise StorageError("the ledger is closed")
            if len(self._waiting) >= self._limit:
                raise StorageError(f"{self._limit} writes are waiting already")
            self._waiting.append(operation)
            self._changed.notify()
        return operation

    async def result(self, operation: WriteOperation[T], timeout_s: float | None) -> T:
        """What the work returned or raised, once it is durable. Raises StorageError.

        Without an end in time, or when cancelled, the operation is abandoned: then ``begun`` says
        whether it may still be, or have been, committed.
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
        """End the thread after what is queued; whether it has ended in time."""
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
        while self._wait():
            batch: list[WriteOperation[Any]] = []
            failed = self._transact(batch, lambda: self._take(begun=True))
            if failed is None:
                self._report(batch)
            elif batch and not failed.slow:
                self._each_alone(batch)
            else:
                self._fail(batch or self._take(begun=False), failed)
        if self._connection is not None:
            self._connection.close()

    def _wait(self) -> bool:
        """Until there is work; False when there will be none."""
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            return bool(self._waiting)

    def _take(self, *, begun: bool) -> list[WriteOperation[Any]]:
        """Called with the database's lock held, so that nothing is begun that then has to wait."""
        batch: list[WriteOperation[Any]] = []
        with self._changed:
            while self._waiting and len(batch) < _BATCH:
                operation = self._waiting.popleft()
                if not operation.abandoned:
                    operation.begun = begun
                    batch.append(operation)
        return batch

    def _transact(
        self, batch: list[WriteOperation[Any]], take: Callable[[], list[WriteOperation[Any]]]
    ) -> CommitFailure | None:
        """Take operations into the batch and commit them; why that failed, if it did."""
        started = time.monotonic()
        try:
            connection = self._connect()
            with connection.begin():
                batch.extend(take())
                transaction = Transaction(connection, self._now)
                perform(transaction, batch)
        except Exception as exc:  # noqa: BLE001 (whatever it is, each caller gets it, and the thread lives)
            slow = time.monotonic() - started > _SLOW_S
            self._suspect = True
            return CommitFailure(explain(exc), slow, fails_every_write(exc))
        self._after_commit(connection, transaction.head)
        return None

    def _connect(self) -> Connection:
        """The connection. One that has failed is not used again, unless no other can be opened."""
        failed = self._connection
        if failed is not None and not self._suspect:
            return failed
        try:
            self._connection = self._engine.connect()
        except Exception as exc:
            if failed is None:
                raise
            log.warning("ledger.connection_kept", reason=explain(exc))  # such as no free file descriptor
            return failed
        if failed is not None:
            failed.invalidate()
            failed.close()
        self._suspect = False
        return self._connection

    def _after_commit(self, connection: Connection, head: Checkpoint) -> None:
        try:
            self._committed(connection, head)
        except Exception:  # what was committed stays so
            log.exception("ledger.upkeep_failed")

    def _each_alone(self, batch: list[WriteOperation[Any]]) -> None:
        """Commit each operation of a batch that failed by itself, so that one harms no other.

        The rest fails at once where it would only meet the same failure: after one that was slow, or two
        in a row that are of the whole database (of one alone, the operation may be too large for the disk).
        """
        failures = 0
        for number, operation in enumerate(batch):
            if operation.abandoned:
                continue
            operation.value, operation.error = None, None
            failed = self._transact([], lambda: [operation])  # noqa: B023 (called before the next one)
            if failed is None:
                self._report([operation])
                failures = 0
                continue
            failures += failed.fails_all
            if failed.slow or failures == 2:
                self._fail(batch[number:], failed)
                return
            self._fail([operation], failed)

    def _fail(self, batch: list[WriteOperation[Any]], failed: CommitFailure) -> None:
        for operation in batch:
            operation.error = failed.error()
        log.error("ledger.write_failed", reason=failed.reason, operations=len(batch))
        self._report(batch)

    def _report(self, batch: list[WriteOperation[Any]]) -> None:
        try:
            self._loop.call_soon_threadsafe(resolve, batch)
        except RuntimeError:  # the loop is closed, and no caller is left
            log.warning("ledger.not_reported", operations=len(batch))
