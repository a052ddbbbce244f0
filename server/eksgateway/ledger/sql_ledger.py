"""The ledger in an SQL database: its reads, its writes, and what becomes of a write that fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from typing import Final, TypeVar

from eksgateway import errors
from eksgateway.blocking import run_blocking
from eksgateway.clock import Clock
from eksgateway.ledger import history, queries, store
from eksgateway.ledger.backlog import Backlog, OwedWrite
from eksgateway.ledger.database import Connection, Database, LedgerError, StorageError
from eksgateway.ledger.denial_log import DenialLog
from eksgateway.ledger.hash_chain import Checkpoint
from eksgateway.ledger.known_clusters import KnownClusters
from eksgateway.ledger.known_requests import KnownRequests
from eksgateway.ledger.protocol import CancellationSummary, HistoryFilter, HistoryPage, Recorded
from eksgateway.ledger.query_pool import QueryPool
from eksgateway.ledger.sqlite.database import SqliteDatabase
from eksgateway.ledger.unit_of_work import ReadKeys, UnitOfWork, request_key
from eksgateway.ledger.writer import Writer
from eksgateway.logs import Log
from eksgateway.model import Cancellation, ClusterRef, Denial, Intent, Observation, Outcome, UpdateRef
from eksgateway.settings import LedgerSettings

log = Log(__name__)

T = TypeVar("T")

_UNWRITTEN: Final = 32  # most observations of an update that are kept while the ledger cannot be written


async def open_ledger(settings: LedgerSettings, clock: Clock) -> SqlLedger:
    """Open the ledger, which is then migrated, complete, readable and writable. Raises LedgerError."""
    database: Database = await run_blocking(_open_database, settings, clock)
    ledger = SqlLedger(settings, clock, database)
    try:
        await ledger.check()
        ledger.learn_requests()
    except errors.LedgerUnavailable as exc:
        await ledger.close()
        raise LedgerError(f"{settings.location}: {exc.detail}") from exc
    return ledger


def _open_database(settings: LedgerSettings, clock: Clock) -> Database:
    if settings.url is None:
        return SqliteDatabase(settings, clock)
    if find_spec("psycopg") is None:
        raise LedgerError(
            f"{settings.location}: the library for PostgreSQL is missing: pip install 'eksgateway[postgres]'"
        )
    from eksgateway.ledger.postgres.database import PostgresDatabase  # noqa: PLC0415 - loads psycopg

    return PostgresDatabase(settings)


class SqlLedger:
    """Implements ``protocol.Ledger``."""

    def __init__(self, settings: LedgerSettings, clock: Clock, database: Database) -> None:
        self._timeout_s = settings.commit_timeout_s
        self._most_owed = settings.queue
        self._keep_denials = settings.keep_denials
        self._clock = clock
        self._database = database
        self._writer = Writer(database, settings.queue)
        self._reader = QueryPool(database, settings.queue)
        self._backlog = Backlog(self._write_owed, clock)
        self._clusters = KnownClusters(self._read)
        self._unwritten: dict[UpdateRef, tuple[Observation, ...]] = {}
        self._read_failed = False  # whether the last read did
        self._denials = DenialLog(self._write_denials, settings.denials, clock)
        self.known_requests = KnownRequests()
        self._learning: asyncio.Task[None] | None = None

    def learn_requests(self) -> None:
        """Learn the recorded request_ids, meanwhile. Only where no other gateway records any."""
        if not self.replica:
            self._learning = asyncio.create_task(self.known_requests.learn(self._read, self._clock))

    @property
    def replica(self) -> str:
        """The name by which other replicas know this one; empty if there is no other."""
        return self._database.replica

    async def commit_intent(self, intent: Intent, forward_s: float = 0) -> Cancellation:
        self.known_requests.add(request_key(intent))
        return await self._commit(intent, partial(store.add_intent, intent=intent, forward_s=forward_s))

    async def renew_intent(self, intent: Intent, forward_s: float = 0) -> Cancellation:
        return await self._commit(intent, partial(store.renew_intent, intent=intent, forward_s=forward_s))

    async def _commit(self, intent: Intent, work: Callable[[UnitOfWork], Cancellation]) -> Cancellation:
        keys = ReadKeys(cancellations=[intent.cancellation_id], requests=[request_key(intent)])
        with ledger_errors():
            if len(self._backlog) >= self._most_owed:
                raise StorageError("too many earlier records wait to be written")
            operation = self._writer.submit(work, keys)
            try:
                return await self._writer.wait(operation, self._timeout_s)
            except (StorageError, asyncio.CancelledError):
                # Nothing is sent after this, so an intent that is committed all the same must be closed.
                if operation.begun:
                    self._close_later(intent)
                raise

    def _close_later(self, intent: Intent) -> None:
        closing = partial(store.close_intent, intent=intent, time=self._clock.now())
        self._backlog.add(intent.cancellation_id, closing)

    async def record_outcome(self, cancellation_id: str, outcome: Outcome) -> Cancellation:
        work = partial(store.add_outcome, cancellation_id=cancellation_id, outcome=outcome)
        try:
            cancellation, head = await self._write(work, ReadKeys(cancellations=[cancellation_id]))
        except (StorageError, asyncio.CancelledError) as exc:
            again = partial(store.add_outcome_once, cancellation_id=cancellation_id, outcome=outcome)
            self._backlog.add(cancellation_id, again)
            if isinstance(exc, asyncio.CancelledError):
                raise
            metadata = {"cancellation_id": cancellation_id}
            raise errors.OutcomeUnrecorded(metadata=metadata, detail=str(exc)) from exc
        self._backlog.discard(cancellation_id)
        _log_head(head)
        return cancellation

    async def record_observation(self, ref: UpdateRef, observation: Observation) -> CancellationSummary:
        with ledger_errors():
            summary = await self._read(
                partial(queries.summarize_if_unchanged, ref=ref, observation=observation)
            )
            earlier = self._unwritten.get(ref, ())
            if summary is not None and not earlier:
                return summary
            work = partial(store.add_observations, ref=ref, earlier=earlier, observation=observation)
            try:
                summary = await self._write(work, ReadKeys(updates=[ref]))
            except StorageError:
                # The caller calls again, perhaps with a newer observation.
                self._unwritten[ref] = (*earlier, observation)[-_UNWRITTEN:]
                raise
            self._unwritten.pop(ref, None)
            return summary

    def record_denial(self, denial: Denial) -> None:
        self._denials.add(denial)

    async def get(self, cancellation_id: str) -> Cancellation | None:
        record = await self._read(partial(queries.find_by_id, cancellation_id=cancellation_id))
        return record.cancellation if record else None

    async def find(self, caller_id: str, request_id: str) -> Cancellation | None:
        query = partial(queries.find_by_request, caller_id=caller_id, request_id=request_id)
        record = await self._read(query)
        return record.cancellation if record else None

    async def look_up(self, caller_id: str, request_id: str) -> Recorded | None:
        # An unreadable ledger is LEDGER_UNAVAILABLE before anything that EKS answers.
        if not self._read_failed and not self.known_requests.may_contain((caller_id, request_id)):
            return None
        query = partial(queries.look_up, replica=self.replica, caller_id=caller_id, request_id=request_id)
        return await self._read(query)

    async def read(self, cancellation_ids: Collection[str]) -> tuple[Recorded, ...]:
        ids = tuple(cancellation_ids)
        return await self._read(partial(queries.read, replica=self.replica, cancellation_ids=ids))

    async def clusters(self, caller_id: str) -> tuple[ClusterRef, ...]:
        if caller_id:
            return await self._read(partial(history.find_clusters_of, caller_id=caller_id))
        return await self._clusters.read()

    async def history(self, which: HistoryFilter, limit: int, before: str) -> HistoryPage:
        return await self._read(partial(history.read_page, which=which, limit=limit, before=before))

    async def pending(self) -> tuple[Recorded, ...]:
        return await self._read(partial(queries.find_pending, replica=self.replica))

    async def pending_ids(self) -> dict[str, int]:
        return await self._read(queries.find_pending_ids)

    async def check(self) -> None:
        with ledger_errors():
            if self._database.probed_by_writing:
                # First, because it checks the files and names what is wrong.
                await self._write(store.write_probe, ReadKeys())
            await self._read(self._database.check)
            if self._denials.failing:
                raise StorageError("denied cancels cannot be written to the decision log")
            if self._backlog.waiting:
                raise StorageError(f"{self._backlog.waiting} outcomes or closings wait to be written")

    async def close(self) -> None:
        if self._learning is not None:
            self._learning.cancel()
        await self._denials.close(self._timeout_s)
        await self._backlog.close()
        ended = await self._writer.close(self._timeout_s)
        self._reader.close()
        if not ended:  # it may still commit, so the ledger stays locked until this process ends
            log.error("ledger.writer_hangs")
            return
        await run_blocking(self._database.close)

    async def _read(self, query: Callable[[Connection], T]) -> T:
        with ledger_errors():
            try:
                result = await self._reader.read(query, self._timeout_s)
            except StorageError:
                self._read_failed = True
                raise
            self._read_failed = False
            return result

    async def _write(self, work: Callable[[UnitOfWork], T], keys: ReadKeys) -> T:
        return await self._writer.wait(self._writer.submit(work, keys), self._timeout_s)

    async def _write_owed(self, cancellation_id: str, write: OwedWrite) -> None:
        keys = ReadKeys(cancellations=[cancellation_id], outcomes=[cancellation_id])
        head = await self._write(write, keys)
        if head is not None:
            _log_head(head)

    async def _write_denials(self, bodies: Sequence[str], lost: int, again: bool) -> None:
        # Without a deadline, as an abandoned batch could be written twice. While the writer hangs, ``check``
        # fails.
        work = partial(store.add_denials, bodies=bodies, lost=lost)
        keys = ReadKeys(denials=True, denial_bodies=bodies[:1] if again else ())
        await self._writer.wait(self._writer.submit(work, keys), None)
        drop = partial(store.drop_oldest_denials, keep=self._keep_denials)
        try:
            begun = False
            while await self._write(partial(drop, begun=begun), keys):
                begun = True
        except StorageError as exc:  # the batch is written; the next one tries this again
            log.warning("ledger.denials_not_dropped", reason=str(exc))


@contextmanager
def ledger_errors() -> Iterator[None]:
    """Raise StorageError as LedgerUnavailable."""
    try:
        yield
    except StorageError as exc:
        raise errors.LedgerUnavailable(detail=str(exc)) from exc


def _log_head(head: Checkpoint) -> None:
    """Log the newest event, so that its removal from the ledger shows."""
    log.info("ledger.head", seq=head.seq, hash=head.hash)
