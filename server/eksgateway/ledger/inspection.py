"""Opens a ledger for programs other than its gateway, for reading only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine

from eksgateway.ledger.migrate import require_current
from eksgateway.ledger.sqlite.completeness import find_missing_events
from eksgateway.ledger.sqlite.files import read_noted_head, wal_bytes
from eksgateway.ledger.sqlite.read_only import open_files


@contextmanager
def open_read_only(path: Path) -> Iterator[Engine]:
    """An engine that reads a ledger of this version's schema.

    Raises LedgerError, also for errors of the database in the block.
    """
    with open_files(path) as engine:
        with engine.begin() as connection:
            require_current(connection, path)
        yield engine


@contextmanager
def open_snapshot(path: Path) -> Iterator[tuple[Connection, str]]:
    """A connection in one snapshot, and the events that the ledger lacks, as ``find_missing_events``."""
    noted_head, had_wal = read_noted_head(path), wal_bytes(path) > 0
    with open_read_only(path) as engine, engine.begin() as connection:
        # A gateway that has started meanwhile has filled the -wal file before it marked the main one.
        has_wal = had_wal or wal_bytes(path) > 0
        yield connection, find_missing_events(connection, path, noted_head, has_wal=has_wal)
