"""SQLite's connections and the -wal file.

With WAL and ``synchronous=FULL``, commits survive a power cut, and readers never wait for the writer
(https://www.sqlite.org/wal.html).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import quote

from sqlalchemy import Connection, Engine, QueuePool, create_engine, event

from eksgateway.ledger.database import LedgerError

# SQLite checkpoints the -wal file at 4 MB, and then cuts it back to this size.
WAL_LIMIT: Final = 16 * 1024 * 1024

READ_CONNECTIONS: Final = 4
_RESTART_WAIT_MS: Final = 100

AccessMode = Literal["write", "read", "inspect"]
_BEGIN: Final = {"write": "BEGIN IMMEDIATE", "read": "BEGIN", "inspect": "BEGIN"}
_URI_MODE: Final = {"write": "rw", "read": "rw", "inspect": "ro"}


class WalShrunk(LedgerError):
    """``accept`` takes the -wal file's present length as right."""

    def __init__(self, text: str, accept: Callable[[], None]) -> None:
        super().__init__(text)
        self.accept = accept


def open_engine(
    path: Path,
    mode: AccessMode,
    *,
    timeout_s: float,
    immutable: bool = False,
    before: Callable[[], None] = lambda: None,
) -> Engine:
    """An engine that begins its transactions itself (the driver begins them too late for WAL).

    ``write`` takes the write lock at the begin, and ``inspect`` also reads text that is not UTF-8.
    ``immutable`` ignores the -wal file and creates no file. ``before`` is called before each connection and
    transaction; raising there prevents it.
    """

    def connect() -> sqlite3.Connection:
        before()
        # Never "rwc": a ledger that was removed must not come back empty.
        uri = f"file:{quote(os.fsencode(path.absolute()))}?mode={_URI_MODE[mode]}"
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
        pool_size=READ_CONNECTIONS if mode == "read" else 1,
        max_overflow=1 if mode == "write" else 0,  # a failed connection is replaced before it is closed
        pool_timeout=timeout_s,
    )

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _: Any) -> None:
        # Otherwise large sorts need a temporary folder, and a read-only container has none.
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
            if not _is_wal_emptied(connection):
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


def open_connections(engine: Engine, count: int) -> None:
    """Open connections that stay open: no later use needs a file descriptor, and no other program closes the
    database last, which removes the -wal file.
    """
    opened = [engine.connect() for _ in range(count)]
    for connection in opened:
        raw_connection(connection).execute("SELECT count(*) FROM sqlite_master").fetchall()  # opens the -wal
        connection.close()  # returns it to the pool


def raw_connection(connection: Connection) -> sqlite3.Connection:
    raw = connection.connection.dbapi_connection
    assert isinstance(raw, sqlite3.Connection)  # noqa: S101  the engines here have no other driver
    return raw


def flush_wal(connection: sqlite3.Connection) -> None:
    """Copy commits to the main file, as far as readers permit. The -wal file keeps its content."""
    connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


def restart_wal(connection: sqlite3.Connection) -> bool:
    """Copy all commits to the main file, so that the next one overwrites the -wal file. False if readers
    prevent it: with readers that overlap, SQLite's own passive checkpoints never complete.
    """
    (timeout_ms,) = connection.execute("PRAGMA busy_timeout").fetchone()
    connection.execute(f"PRAGMA busy_timeout={_RESTART_WAIT_MS}")
    try:
        (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
    finally:
        connection.execute(f"PRAGMA busy_timeout={timeout_ms}")
    return bool(busy == 0)


def _is_wal_emptied(connection: Connection) -> bool:
    """Whether another program's checkpoint emptied the -wal file, which loses nothing.

    A file that was cut is unreadable, or has fewer frames than SQLite counts.
    """
    (_, frames, _) = raw_connection(connection).execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    return bool(frames == 0)
