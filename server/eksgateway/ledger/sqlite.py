"""SQLite's own side of the ledger: connections, their settings, and what its errors mean.

WAL with ``synchronous=FULL``: what was committed survives a power cut, and readers never wait for
the writer (https://www.sqlite.org/wal.html).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from sqlalchemy import Connection, Engine, QueuePool, create_engine, event
from sqlalchemy.exc import SQLAlchemyError

from eksgateway.errors import StartError

# The -wal file is cut back to this size after a checkpoint. SQLite checkpoints at 4 MB by itself.
WAL_LIMIT = 16 * 1024 * 1024

# With and without SQLAlchemy in between.
DATABASE_ERRORS = (SQLAlchemyError, sqlite3.Error)

_RESTART_WAIT_MS = 100


class LedgerError(StartError):
    """A ledger that cannot be used; the text says which file, what is wrong and how to mend it."""


class WalShrunk(LedgerError):
    """The -wal file is shorter than this process left it. ``accept`` takes its length as it is now."""

    def __init__(self, text: str, accept: Callable[[], None]) -> None:
        super().__init__(text)
        self.accept = accept


Mode = Literal["write", "read", "inspect"]
_BEGIN = {"write": "BEGIN IMMEDIATE", "read": "BEGIN", "inspect": "BEGIN"}
_ACCESS = {"write": "rw", "read": "rw", "inspect": "ro"}

# The first entry whose code begins an error's name is the one that is shown, so special codes come first.
_HINTS = {
    "SQLITE_NOTADB": "this is not a ledger: set `ledger.path` to a new file, or restore it from a backup",
    "SQLITE_CORRUPT": "the file is damaged: restore it from a backup",
    "SQLITE_FULL": "the disk is full: free some space",
    "SQLITE_READONLY": "the file cannot be written: mend the permissions of it and of its folder, mount the"
    " volume writable, or set `ledger.path` elsewhere",
    "SQLITE_PERM": "the file cannot be used: mend the permissions of it and of its folder",
    "SQLITE_CANTOPEN": "a file cannot be opened: check that the ledger and its folder can be read and"
    " written, and that the process has file descriptors left (ulimit -n)",
    "SQLITE_BUSY": "another program holds the file: end that program",
    "SQLITE_LOCKED": "another program holds the file: end that program",
    "SQLITE_PROTOCOL": "another program holds the file: end that program",
    "SQLITE_NOMEM": "the process is out of memory: raise its memory limit",
    "SQLITE_TOOBIG": "the record is too large for SQLite",
    "SQLITE_NOLFS": "the file system does not take files of this size: set `ledger.path` to another one",
    "SQLITE_IOERR_GETTEMPPATH": "SQLite found no folder for a temporary file: set SQLITE_TMPDIR or TMPDIR to"
    " a folder that can be written",
    "SQLITE_IOERR_SHORT_READ": "the file is shorter than it has to be: it, or its -wal, was cut; restore it"
    " from a backup",
    "SQLITE_IOERR_CORRUPTFS": "the file system is damaged: check it",
    "SQLITE_IOERR_NOMEM": "the process is out of memory: raise its memory limit",
    "SQLITE_IOERR_LOCK": "the file system has no working file locks: use a local disk",
    "SQLITE_IOERR_SHM": "the -shm file beside the ledger cannot be used: check the space on the disk, and use"
    " a local disk",
    "SQLITE_IOERR": "the disk fails, or a quota is used up: look at the system's log",
}

# Failures of the whole database: another write would fail in the same way.
_WHOLE = (
    *("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_PROTOCOL", "SQLITE_FULL", "SQLITE_READONLY", "SQLITE_PERM"),
    *("SQLITE_CANTOPEN", "SQLITE_NOTADB", "SQLITE_NOLFS", "SQLITE_IOERR"),
)
# Of the errors that begin like one above, those in which one page or one statement is at fault.
_SINGLE = (
    *("SQLITE_IOERR_GETTEMPPATH", "SQLITE_IOERR_READ", "SQLITE_IOERR_SHORT_READ"),
    *("SQLITE_IOERR_CORRUPTFS", "SQLITE_IOERR_NOMEM"),
)


def explain(exc: BaseException) -> str:
    """What went wrong in SQLite's words, and what to do about it where that is known."""
    name = error_name(exc)
    hint = next((text for code, text in _HINTS.items() if name.startswith(code)), "")
    return f"{_cause(exc)} ({hint})" if hint else str(_cause(exc))


def fails_every_write(exc: BaseException) -> bool:
    """Whether an error keeps every write from succeeding, and not only the one that it met."""
    name = error_name(exc)
    return isinstance(exc, LedgerError) or (name.startswith(_WHOLE) and not name.startswith(_SINGLE))


def _cause(exc: BaseException) -> BaseException:
    """The first error of the chain: after it, ending the transaction may have failed as well."""
    while exc.__context__ is not None:
        exc = exc.__context__
    return exc


def error_name(exc: BaseException) -> str:
    """SQLite's extended code by its name, or an empty string."""
    return str(getattr(_cause(exc), "sqlite_errorname", ""))


def open_engine(  # noqa: PLR0913  each is a property of its connections
    path: Path,
    mode: Mode,
    *,
    timeout_s: float,
    connections: int = 1,
    immutable: bool = False,
    before: Callable[[], None] = lambda: None,
) -> Engine:
    """An engine whose transactions are real ones (the driver's own begin too late for WAL).

    ``write`` takes the write lock at once, ``read`` cannot write, and ``inspect`` opens the file
    read-only, also one that cannot be decoded in places; ``immutable`` then ignores the -wal and
    creates no file. ``before`` is called before each connection and transaction, and stops it by raising.
    """

    def connect() -> sqlite3.Connection:
        before()
        # Never "rwc": a ledger that has vanished must not come back empty.
        uri = f"file:{quote(os.fsencode(path.absolute()))}?mode={_ACCESS[mode]}"
        connection = sqlite3.connect(
            f"{uri}&immutable=1" if immutable else uri,
            uri=True,
            timeout=timeout_s,
            isolation_level=None,
            check_same_thread=False,
        )
        if mode == "inspect":
            connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
        return connection

    engine = create_engine(
        "sqlite://",
        creator=connect,
        poolclass=QueuePool,
        pool_size=connections,
        max_overflow=1 if mode == "write" else 0,  # a connection that failed is replaced before it is closed
        pool_timeout=timeout_s,
    )

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _: Any) -> None:
        # Without it SQLite writes large savepoints and sorts to a temporary folder, which a container with
        # a read-only root does not have.
        connection.execute("PRAGMA temp_store=MEMORY")
        if mode == "write":
            _configure_writer(connection, path)
        else:
            connection.execute("PRAGMA query_only=ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        try:
            before()
        except WalShrunk as exc:
            if not _is_checkpointed(connection):
                raise
            exc.accept()
        connection.exec_driver_sql(_BEGIN[mode])

    return engine


def _configure_writer(connection: sqlite3.Connection, path: Path) -> None:
    (journal,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
    if journal != "wal":
        raise LedgerError(f"{path}: this file system has no WAL mode for SQLite: use a local disk")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(f"PRAGMA journal_size_limit={WAL_LIMIT}")


def hold_connections(engine: Engine, count: int) -> None:
    """Open connections that stay open: no later use of them needs a file descriptor, and no other program
    is the last one to close the database, which would remove the -wal file.
    """
    opened = [engine.connect() for _ in range(count)]
    for connection in opened:
        driver(connection).execute("SELECT count(*) FROM sqlite_master").fetchall()  # opens the -wal file
        connection.close()  # back into the pool, which keeps it


def driver(connection: Connection) -> sqlite3.Connection:
    """SQLite's own connection, for statements outside of a transaction."""
    raw = connection.connection.dbapi_connection
    assert isinstance(raw, sqlite3.Connection)  # noqa: S101  the engines here have no other driver
    return raw


def copy_to_main_file(connection: sqlite3.Connection) -> None:
    """Checkpoint what no reader holds back; the -wal file keeps its length and content."""
    connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


def restart_wal(connection: sqlite3.Connection) -> bool:
    """Checkpoint all, so that the next commit starts the -wal file anew; whether readers let it.

    SQLite's own checkpoints are passive: with readers that overlap they never come to an end.
    """
    (timeout_ms,) = connection.execute("PRAGMA busy_timeout").fetchone()
    connection.execute(f"PRAGMA busy_timeout={_RESTART_WAIT_MS}")
    try:
        (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
    finally:
        connection.execute(f"PRAGMA busy_timeout={timeout_ms}")
    return bool(busy == 0)


def _is_checkpointed(connection: Connection) -> bool:
    """Whether the -wal file is short because another program's checkpoint emptied it, which loses nothing.

    A file that was cut either cannot be read, or has fewer frames than SQLite counts.
    """
    (_, frames, _) = driver(connection).execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    return bool(frames == 0)
