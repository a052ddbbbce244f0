"""A gateway's own SQLite database: its start, upkeep after each commit, and its end."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final, TypeVar

from eksgateway.clock import Clock
from eksgateway.ledger import queries
from eksgateway.ledger.database import Connection, LedgerError
from eksgateway.ledger.hash_chain import Checkpoint
from eksgateway.ledger.migrate import NotMigrated, migrate
from eksgateway.ledger.sqlite import errors
from eksgateway.ledger.sqlite.batches import read_rows, write_changes
from eksgateway.ledger.sqlite.completeness import UsageMark, find_missing_events, read_mark, write_mark
from eksgateway.ledger.sqlite.connecting import (
    WAL_LIMIT,
    connect,
    flush_wal,
    keep_files_open,
    restart_wal,
)
from eksgateway.ledger.sqlite.files import LedgerFile, beside
from eksgateway.ledger.sqlite.write_connection import WriteConnection
from eksgateway.ledger.unit_of_work import ReadKeys, UnitOfWork
from eksgateway.logs import Log
from eksgateway.settings import LedgerSettings

log = Log(__name__)

T = TypeVar("T")

_READ_CONNECTIONS: Final = 4
_RESTART_PAUSE_S: Final = 1.0


class SqliteDatabase:
    """Implements ``ledger.database.Database``."""

    replica = ""
    driver_errors: tuple[type[Exception], ...] = (sqlite3.Error,)
    explain = staticmethod(errors.explain)
    fails_every_write = staticmethod(errors.fails_every_write)
    check = staticmethod(queries.read_probe)
    read_connections = _READ_CONNECTIONS
    probed_by_writing = True

    def __init__(
        self, settings: LedgerSettings, clock: Clock, writer: type[sqlite3.Connection] = sqlite3.Connection
    ) -> None:
        """Lock, check, migrate and open the ledger; create it where there never was one.

        ``writer`` is the class of the writer's connection. Blocks. Raises LedgerError.
        """
        assert settings.path is not None  # noqa: S101 - of settings without ``url``
        self._file = file = LedgerFile(settings.path)
        timeout_s = settings.commit_timeout_s
        open_writer = partial(connect, file.path, "write", writer, timeout_s=timeout_s)
        self.writer = WriteConnection(open_writer, file.check)
        self._readers: list[sqlite3.Connection] = []
        self._clock = clock
        self._noted_seq = -1
        self._next_restart = 0.0
        self._wal_grows = False
        try:
            _require_own_wal(file)
            migrate(self.writer.connect(), file.given)
            self._begin_use()
            for _ in range(_READ_CONNECTIONS):
                self._readers.append(connect(file.path, "read", sqlite3.Connection, timeout_s=timeout_s))
                keep_files_open(self._readers[-1])
        except BaseException as exc:
            self._release()
            if isinstance(exc, sqlite3.Error):
                raise LedgerError(f"{file.given}: {errors.explain(exc)}") from exc
            raise

    def _begin_use(self) -> None:
        file = self._file
        with self.writer.begin() as connection:
            missing = find_missing_events(connection, file.given, file.noted_head, has_wal=file.had_wal)
            if missing:
                raise LedgerError(f"{file.given}: {missing}")
            restored, head = read_mark(connection) == UsageMark.BACKUP, queries.find_head(connection)
            # Before the mark: a backup may have fewer events than were noted.
            file.replace_head(head)
            write_mark(connection, UsageMark.IN_USE)
        # This copies the mark, and leaves the -wal file filled; ``completeness`` needs both.
        flush_wal(connection)
        file.remember_sizes()
        if restored:
            before = file.noted_head.seq if file.noted_head else None
            log.warning("ledger.restored", seq=head.seq, before=before)

    @contextmanager
    def begin_batch(self, keys: ReadKeys) -> Iterator[UnitOfWork]:
        with self.writer.begin() as connection:
            unit = UnitOfWork(read_rows(connection, keys), self._clock.now)
            yield unit
            write_changes(connection, unit)
        try:
            self._after_commit(connection, unit.head)
        except Exception:  # the commit itself succeeded
            log.exception("ledger.upkeep_failed")

    def read(self, query: Callable[[Connection], T]) -> T:
        connection = self._readers.pop()
        try:
            return query(connection)
        finally:
            if self._file.is_locked:
                self._readers.append(connection)
            else:  # it was closed meanwhile
                connection.close()

    def _after_commit(self, connection: sqlite3.Connection, head: Checkpoint) -> None:
        if head.seq != self._noted_seq:
            self._file.note_head(head)
            self._noted_seq = head.seq
        wal_bytes = self._file.remember_sizes()
        if wal_bytes > WAL_LIMIT and time.monotonic() >= self._next_restart:
            self._restart_wal(connection, wal_bytes)

    def _restart_wal(self, connection: sqlite3.Connection, wal_bytes: int) -> None:
        prevented = not restart_wal(connection)
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
        try:
            if not self._file.is_cut():
                write_mark(self.writer.connect(), UsageMark.CLOSED)
        except (LedgerError, sqlite3.Error) as exc:
            log.warning("ledger.not_marked_closed", reason=errors.explain(exc))
        self._release()

    def _release(self) -> None:
        for connection in self._readers:
            connection.close()
        self.writer.close()  # closing the last connection copies all into the main file
        self._file.release()


def _require_own_wal(file: LedgerFile) -> None:
    """Refuse a -wal file that belongs to another main file: SQLite would mix both, and damage the ledger.

    A main file that has one but is not in use was put beside it, or is the ledger of a version up to 0.1.0 or
    of a start that was killed, and then sound.
    """
    if not file.had_wal or file.user_version == UsageMark.IN_USE:
        return
    from eksgateway.ledger.verify import verify  # noqa: PLC0415 - 29 ms of a start, which seldom needs it

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
