"""Creates the file of a new ledger."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from eksgateway.ledger.database import LedgerError
from eksgateway.ledger.migrate import upgrade_file
from eksgateway.ledger.sqlite.connecting import connect
from eksgateway.ledger.sqlite.errors import explain


def create_ledger(path: Path) -> None:
    """Create an empty ledger under another name and rename it: a file without tables has lost them.

    Raises LedgerError.
    """
    unfinished = path.with_name(path.name + ".new")
    try:
        for old in (unfinished, unfinished.with_name(unfinished.name + "-wal")):
            old.unlink(missing_ok=True)
        unfinished.touch(0o600, exist_ok=False)
        with closing(connect(unfinished, "write", sqlite3.Connection, timeout_s=3.0)) as connection:
            upgrade_file(connection)  # closing copies all into the main file
        unfinished.rename(path)
        sync_folder(path.parent)
    except OSError as exc:
        raise LedgerError(
            f"{path}: {exc.strerror}: the ledger must be a file that this process can read and write"
        ) from exc
    except sqlite3.Error as exc:
        raise LedgerError(f"{path}: {explain(exc)}") from exc


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
