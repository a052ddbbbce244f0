"""SQLite's connections and the -wal file.

With WAL and ``synchronous=FULL``, commits survive a power cut, and readers never wait for the writer
(https://www.sqlite.org/wal.html).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal, TypeVar
from urllib.parse import quote

from eksgateway.ledger.database import LedgerError

# SQLite checkpoints the -wal file at 4 MB, and then cuts it back to this size.
WAL_LIMIT: Final = 16 * 1024 * 1024

_RESTART_WAIT_MS: Final = 100

AccessMode = Literal["write", "read", "inspect"]
_URI_MODE: Final = {"write": "rw", "read": "rw", "inspect": "ro"}

C = TypeVar("C", bound=sqlite3.Connection)


class WalShrunk(LedgerError):
    """``accept`` takes the -wal file's present length as right."""

    def __init__(self, text: str, accept: Callable[[], None]) -> None:
        super().__init__(text)
        self.accept = accept


def connect(
    path: Path,
    mode: AccessMode,
    factory: type[C],
    *,
    timeout_s: float,
    immutable: bool = False,
) -> C:
    """A connection without implicit transactions (the driver begins them too late for WAL).

    ``inspect`` also reads text that is not UTF-8. ``immutable`` ignores the -wal file and creates no file.
    """
    # Never "rwc": a ledger that was removed must not come back empty.
    uri = f"file:{quote(os.fsencode(path.absolute()))}?mode={_URI_MODE[mode]}"
    connection = sqlite3.connect(
        f"{uri}&immutable=1" if immutable else uri,
        uri=True,
        timeout=timeout_s,
        isolation_level=None,
        check_same_thread=False,
        factory=factory,
    )
    try:
        _configure(connection, path, mode)
    except BaseException:
        connection.close()
        raise
    return connection


def _configure(connection: sqlite3.Connection, path: Path, mode: AccessMode) -> None:
    # Otherwise large sorts need a temporary folder, and a read-only container has none.
    connection.execute("PRAGMA temp_store=MEMORY")
    if mode == "inspect":
        connection.text_factory = decode_any_text
    if mode != "write":
        connection.execute("PRAGMA query_only=ON")
        return
    (journal,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
    if journal != "wal":
        raise LedgerError(f"{path}: this file system has no WAL mode for SQLite: use a local disk")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(f"PRAGMA journal_size_limit={WAL_LIMIT}")


def decode_any_text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def keep_files_open(connection: sqlite3.Connection) -> None:
    """Open the -wal file: no later use needs a file descriptor, and no other program closes the database
    last, which removes that file.
    """
    connection.execute("SELECT count(*) FROM sqlite_master").fetchall()


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


def is_wal_emptied(connection: sqlite3.Connection) -> bool:
    """Whether another program's checkpoint emptied the -wal file, which loses nothing.

    A file that was cut is unreadable, or has fewer frames than SQLite counts.
    """
    (_, frames, _) = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    return bool(frames == 0)
