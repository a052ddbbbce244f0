"""A gateway's own SQLite database: its start, upkeep after each commit, and its end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from sqlalchemy import Connection

from eksgateway.clock import Clock
from eksgateway.ledger import queries
from eksgateway.ledger.database import LedgerError
from eksgateway.ledger.hash_chain import Checkpoint
from eksgateway.ledger.migrate import NotMigrated, migrate
from eksgateway.ledger.sqlite import errors
from eksgateway.ledger.sqlite.batches import read_rows, write_changes
from eksgateway.ledger.sqlite.completeness import UsageMark, find_missing_events, read_mark, write_mark
from eksgateway.ledger.sqlite.engine import (
    READ_CONNECTIONS,
    WAL_LIMIT,
    flush_wal,
    open_connections,
    open_engine,
    raw_connection,
    restart_wal,
)
from eksgateway.ledger.sqlite.files import LedgerFile, beside
from eksgateway.ledger.sqlite.write_connection import WriteConnection
from eksgateway.ledger.unit_of_work import ReadKeys, UnitOfWork
from eksgateway.ledger.verify import verify
from eksgateway.logs import Log
from eksgateway.settings import LedgerSettings

log = Log(__name__)

T = TypeVar("T")

_RESTART_PAUSE_S: Final = 1.0


class SqliteDatabase:
    """Implements ``ledger.database.Database``."""

    replica = ""
    explain = staticmethod(errors.explain)
    fails_every_write = staticmethod(errors.fails_every_write)
    check = staticmethod(queries.read_probe)
    read_connections = READ_CONNECTIONS
    probed_by_writing = True

    def __init__(self, settings: LedgerSettings, clock: Clock) -> None:
        """Lock, check, migrate and open the ledger; create it where there never was one.

        Blocks. Raises LedgerError.
        """
        assert settings.path is not None  # noqa: S101 - of settings without ``url``
        self._file = file = LedgerFile(settings.path)
        timeout_s = settings.commit_timeout_s
        self.write_engine = open_engine(file.path, "write", timeout_s=timeout_s, before=file.check)
        self.read_engine = open_engine(file.path, "read", timeout_s=timeout_s)
        self._writer = WriteConnection(self.write_engine)
        self._clock = clock
        self._noted_seq = -1
        self._next_restart = 0.0
        self._wal_grows = False
        try:
            _require_own_wal(file)
            migrate(self.write_engine, file.given)
            self._begin_use()
            open_connections(self.write_engine, 1)
            open_connections(self.read_engine, READ_CONNECTIONS)
        except BaseException as exc:
            self._release()
            if isinstance(exc, errors.DATABASE_ERRORS):
                raise LedgerError(f"{file.given}: {errors.explain(exc)}") from exc
            raise

    def _begin_use(self) -> None:
        file = self._file
        with self.write_engine.connect() as connection:
            with connection.begin():
                missing = find_missing_events(connection, file.given, file.noted_head, has_wal=file.had_wal)
                if missing:
                    raise LedgerError(f"{file.given}: {missing}")
                restored, head = read_mark(connection) == UsageMark.BACKUP, queries.find_head(connection)
                # Before the mark: a backup may have fewer events than were noted.
                file.replace_head(head)
                write_mark(raw_connection(connection), UsageMark.IN_USE)
            # This copies the mark, and leaves the -wal file filled; ``completeness`` needs both.
            flush_wal(raw_connection(connection))
        file.remember_sizes()
        if restored:
            before = file.noted_head.seq if file.noted_head else None
            log.warning("ledger.restored", seq=head.seq, before=before)

    @contextmanager
    def begin_batch(self, keys: ReadKeys) -> Iterator[UnitOfWork]:
        with self._writer.begin() as connection:
            unit = UnitOfWork(read_rows(connection, keys), self._clock.now)
            yield unit
            write_changes(connection, unit)
        try:
            self._after_commit(connection, unit.head)
        except Exception:  # the commit itself succeeded
            log.exception("ledger.upkeep_failed")

    def read(self, query: Callable[[Connection], T]) -> T:
        with self.read_engine.begin() as connection:
            return query(connection)

    def _after_commit(self, connection: Connection, head: Checkpoint) -> None:
        if head.seq != self._noted_seq:
            self._file.note_head(head)
            self._noted_seq = head.seq
        wal_bytes = self._file.remember_sizes()
        if wal_bytes > WAL_LIMIT and time.monotonic() >= self._next_restart:
            self._restart_wal(connection, wal_bytes)

    def _restart_wal(self, connection: Connection, wal_bytes: int) -> None:
        prevented = not restart_wal(raw_connection(connection))
        if prevented:  # an attempt waits, and delays the writes
            self._next_restart = time.monotonic() + _RESTART_PAUSE_S
        if prevented and not self._wal_grows:
            log.warning(
                "ledger.wal_grows",
                bytes=wal_bytes,
                hint="a program reads the ledger in one long transaction: end it, or copy the ledger first",
            )
        self._wal_grows = prevented

    def close(self) -> None:
        if not self._file.is_locked:
            return
        self._writer.close()
        try:
            if not self._file.is_cut():
                with self.write_engine.connect() as connection:
                    write_mark(raw_connection(connection), UsageMark.CLOSED)
        except (LedgerError, *errors.DATABASE_ERRORS) as exc:
            log.warning("ledger.not_marked_closed", reason=errors.explain(exc))
        self._release()

    def _release(self) -> None:
        self._writer.close()
        self.read_engine.dispose()
        self.write_engine.dispose()  # closing the last connection copies all into the main file
        self._file.release()


def _require_own_wal(file: LedgerFile) -> None:
    """Refuse a -wal file that belongs to another main file: SQLite would mix both, and damage the ledger.

    A main file that has one but is not in use was put beside it, or is the ledger of a version up to 0.1.0 or
    of a start that was killed, and then sound.
    """
    if not file.had_wal or file.user_version == UsageMark.IN_USE:
        return
    try:
        broken = verify(file.path).broken
        fault = f"event {broken.seq}: {broken.what}" if broken else ""
    except NotMigrated:
        return
    except LedgerError as exc:
        fault = str(exc)
    if fault:
        wal, shm = beside(file.path, "-wal"), beside(file.path, "-shm")
        raise LedgerError(
            f"{file.given}: with its -wal file it is not sound ({fault}). If a backup was put in place beside"
            f" the -wal file of an earlier ledger, move {wal} and {shm} away, and keep them: they may hold"
            " newer events"
        )
