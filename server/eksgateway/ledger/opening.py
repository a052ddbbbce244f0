"""Opens and closes the ledger's files for a gateway, and keeps them in order while it runs."""

from __future__ import annotations

import time

from sqlalchemy import Connection, Engine

from eksgateway.ledger import queries
from eksgateway.ledger.completeness import UsageMark, missing, read_mark, write_mark
from eksgateway.ledger.files import LedgerFile, beside
from eksgateway.ledger.hash_chain import Checkpoint
from eksgateway.ledger.migrate import NotMigrated, migrate
from eksgateway.ledger.reader import THREADS
from eksgateway.ledger.sqlite import (
    DATABASE_ERRORS,
    WAL_LIMIT,
    LedgerError,
    copy_to_main_file,
    driver,
    explain,
    hold_connections,
    open_engine,
    restart_wal,
)
from eksgateway.ledger.verify import verify
from eksgateway.logs import Log
from eksgateway.settings import LedgerSettings

log = Log(__name__)

_RESTART_PAUSE_S = 1.0


def open_files(settings: LedgerSettings) -> tuple[LedgerFile, Engine, Engine]:
    """The locked file, and engines to write and to read it, all connections open. Raises LedgerError."""
    path, timeout_s = settings.path, settings.commit_timeout_s
    file = LedgerFile(path)
    try:
        _require_own_wal(file)
    except LedgerError:
        file.release()
        raise
    write = open_engine(file.path, "write", timeout_s=timeout_s, before=file.check)
    read = open_engine(file.path, "read", timeout_s=timeout_s, connections=THREADS)
    try:
        migrate(write, path)
        _begin_use(write, file)
        hold_connections(write, 1)
        hold_connections(read, THREADS)
    except BaseException as exc:
        write.dispose()
        read.dispose()
        file.release()
        if isinstance(exc, DATABASE_ERRORS):
            raise LedgerError(f"{path}: {explain(exc)}") from exc
        raise
    return file, write, read


def _require_own_wal(file: LedgerFile) -> None:
    """Refuse a -wal file that is not the main file's own: SQLite would mix both, and damage the ledger.

    A main file that is not in use and has one is a copy that was put in place beside the -wal file of an
    earlier ledger; or the ledger of a version up to 0.1.0, or of a start that was killed, and then whole.
    """
    if not file.had_wal or file.user_version == UsageMark.IN_USE:
        return
    try:
        broken = verify(file.path).broken
        found = f"event {broken.seq}: {broken.what}" if broken else ""
    except NotMigrated:
        return
    except LedgerError as exc:
        found = str(exc)
    if found:
        wal, shm = beside(file.path, "-wal"), beside(file.path, "-shm")
        raise LedgerError(
            f"{file.given}: with its -wal file it is not sound ({found}). If a backup was put in place beside"
            f" the -wal file of an earlier ledger, move {wal} and {shm} away, and keep them: they may hold"
            " newer events"
        )


def _begin_use(write: Engine, file: LedgerFile) -> None:
    """Refuse a ledger that lacks events; mark this one as in use, also in its main file."""
    with write.connect() as connection:
        with connection.begin():
            if lacking := missing(connection, file.given, file.known, has_wal=file.had_wal):
                raise LedgerError(f"{file.given}: {lacking}")
            restored, head = read_mark(connection) == UsageMark.BACKUP, queries.head(connection)
            # Before the mark: a backup has fewer events than were noted of the ledger before it.
            file.begin_notes(head)
            write_mark(driver(connection), UsageMark.IN_USE)
        # Only the mark has to be there; copying leaves the -wal file filled, which is the other half of it.
        copy_to_main_file(driver(connection))
    file.committed()
    if restored:
        log.warning("ledger.restored", seq=head.seq, before=file.known.seq if file.known else None)


def close_files(file: LedgerFile, write: Engine, read: Engine) -> None:
    """Close every connection, the last of which copies all into the main file, and give the ledger up.

    A second call does nothing.
    """
    if not file.held:
        return
    try:
        if not file.was_cut():
            with write.connect() as connection:
                write_mark(driver(connection), UsageMark.CLOSED)
    except (LedgerError, *DATABASE_ERRORS) as exc:
        log.warning("ledger.not_marked_closed", reason=explain(exc))
    for engine in (read, write):
        engine.dispose()
    file.release()


class Upkeep:
    """What the writer's thread does after each commit: notes, and the -wal file's bound."""

    def __init__(self, file: LedgerFile) -> None:
        self._file = file
        self._noted = -1
        self._next_try = 0.0
        self._large = False

    def __call__(self, connection: Connection, head: Checkpoint) -> None:
        if head.seq != self._noted:
            self._file.note(head)
            self._noted = head.seq
        size = self._file.committed()
        if size > WAL_LIMIT and time.monotonic() >= self._next_try:
            self._restart(connection, size)

    def _restart(self, connection: Connection, size: int) -> None:
        held = not restart_wal(driver(connection))
        if held:  # each try waits, and the writes with it
            self._next_try = time.monotonic() + _RESTART_PAUSE_S
        if held and not self._large:
            log.warning(
                "ledger.wal_grows",
                bytes=size,
                hint="a program reads the ledger in one long transaction: end it, or copy the ledger first",
            )
        self._large = held
