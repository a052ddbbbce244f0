"""Everything about the ledger that is SQLite's own: the file, its lock, connections, error texts.

WAL with ``synchronous=FULL``: what was committed survives a power cut, and readers never wait for
the writer (https://www.sqlite.org/wal.html).
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from sqlalchemy import Connection, Engine, QueuePool, create_engine, event

from eksgateway.errors import StartError


class LedgerError(StartError):
    """A ledger that cannot be used; the text says which file, what is wrong and how to mend it."""


Mode = Literal["write", "read", "inspect"]
_BEGIN = {"write": "BEGIN IMMEDIATE", "read": "BEGIN", "inspect": "BEGIN"}

_HINTS = {
    "SQLITE_NOTADB": "this is not a ledger: set `ledger.path` to a new file, or restore it from a backup",
    "SQLITE_CORRUPT": "the file is damaged: restore it from a backup",
    "SQLITE_FULL": "the disk is full: free some space",
    "SQLITE_READONLY": "the file cannot be written: mend its permissions, or set `ledger.path` elsewhere",
    "SQLITE_CANTOPEN": "the file cannot be opened: check that it and its folder can be read and written",
    "SQLITE_BUSY": "another program holds the file: end that program",
    "SQLITE_IOERR": "the disk fails: look at the system's log",
}


def explain(exc: Exception) -> str:
    """What went wrong in SQLite's words, and what to do about it where that is known.

    The first error of the chain counts: after it, ending the transaction may have failed as well.
    """
    cause: BaseException = exc
    while cause.__context__ is not None:
        cause = cause.__context__
    name = getattr(cause, "sqlite_errorname", "")
    hint = next((text for code, text in _HINTS.items() if name.startswith(code)), "")
    return f"{cause} ({hint})" if hint else str(cause)


class LedgerFile:
    """The database file, held by one process at a time through a lock on a file beside it."""

    def __init__(self, path: Path) -> None:
        """Creates the file where it is missing (mode 0600), and locks it. Raises LedgerError."""
        self.path = path
        _create(path)
        self._lock = _lock(path)
        self._identity = _identity(path)

    def check(self) -> None:
        """Raises LedgerError when the path no longer leads to this file: what is written into a
        file that was removed is lost.
        """
        if self._identity is None or _identity(self.path) != self._identity:
            raise LedgerError(f"{self.path}: the file was removed or replaced: put it back and restart")

    def release(self) -> None:
        self._lock.close()


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _create(path: Path) -> None:
    if not path.parent.is_dir():
        raise LedgerError(
            f"{path}: {path.parent} is not a folder: create it, or set `ledger.path` to another place"
        )
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o600))
        regular = stat.S_ISREG(path.stat().st_mode)
    except OSError as exc:
        raise LedgerError(
            f"{path}: {exc.strerror}: the ledger must be a file that this process can read and write"
        ) from exc
    if not regular:
        raise LedgerError(f"{path}: is not an ordinary file: set `ledger.path` to another place")


def _lock(path: Path) -> Any:
    beside = path.with_name(path.name + ".lock")
    try:
        held = os.fdopen(os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+")
    except OSError as exc:
        raise LedgerError(f"{beside}: {exc.strerror}: the ledger's lock cannot be taken") from exc
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        held.close()
        raise LedgerError(
            f"{path}: another gateway process uses this ledger: end that one, or give this one a"
            " `ledger.path` of its own"
        ) from exc
    return held


def open_engine(
    path: Path,
    mode: Mode,
    *,
    timeout_s: float,
    connections: int = 1,
    before: Callable[[], None] = lambda: None,
) -> Engine:
    """An engine whose transactions are real ones (the driver's own begin too late for WAL).

    ``write`` takes the write lock at once, ``read`` cannot write, and ``inspect`` opens the file
    read-only, also one that cannot be decoded in places. ``before`` is called before each
    connection and transaction, and stops it by raising.
    """

    def connect() -> sqlite3.Connection:
        before()
        # Never "rwc": a ledger that has vanished must not come back empty.
        access = "ro" if mode == "inspect" else "rw"
        connection = sqlite3.connect(
            f"file:{quote(str(path.absolute()))}?mode={access}",
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
        max_overflow=0,
        pool_timeout=timeout_s,
    )

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _: Any) -> None:
        if mode == "write":
            (journal,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
            if journal != "wal":
                raise LedgerError(f"{path}: this file system has no WAL mode for SQLite: use a local disk")
            connection.execute("PRAGMA synchronous=FULL")
        else:
            connection.execute("PRAGMA query_only=ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        before()
        connection.exec_driver_sql(_BEGIN[mode])

    return engine
