"""Reads a ledger from programs other than its gateway, also while that runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final

from eksgateway.ledger.codec import CodecError, decode
from eksgateway.ledger.database import LedgerError, LedgerLocation, Snapshot
from eksgateway.ledger.hash_chain import Event
from eksgateway.ledger.migrate import require_readable
from eksgateway.ledger.queries import EVENTS
from eksgateway.ledger.sqlite.completeness import find_missing_events
from eksgateway.ledger.sqlite.files import read_noted_head, wal_bytes
from eksgateway.ledger.sqlite.read_only import open_files
from eksgateway.model import Denial
from eksgateway.settings import PostgresLocation

_PAGE: Final = 1000


@contextmanager
def open_read_only(location: LedgerLocation) -> Iterator[Callable[[], AbstractContextManager[Snapshot]]]:
    """Yields a function that begins a snapshot of a ledger of this version's schema.

    Raises LedgerError, also for errors of the database in the block.
    """
    if isinstance(location, PostgresLocation):
        from eksgateway.ledger.postgres.read_only import open_schema  # noqa: PLC0415 - loads psycopg

        with open_schema(location) as begin_snapshot:
            yield begin_snapshot
        return
    with open_files(location) as begin:
        with begin() as connection:
            require_readable(connection, location)
        yield begin


@contextmanager
def open_snapshot(location: LedgerLocation) -> Iterator[tuple[Snapshot, str]]:
    """One snapshot, and the text of ``find_missing_events``."""
    if isinstance(location, PostgresLocation):
        with open_read_only(location) as begin, begin() as snapshot:
            yield snapshot, ""
        return
    noted_head, had_wal = read_noted_head(location), wal_bytes(location) > 0
    with open_read_only(location) as begin, begin() as snapshot:
        # A gateway that has started meanwhile filled the -wal file before it marked the main one.
        has_wal = had_wal or wal_bytes(location) > 0
        yield snapshot, find_missing_events(snapshot, location, noted_head, has_wal=has_wal)


def read_events(location: LedgerLocation) -> Iterator[Event]:
    """Oldest first. Raises LedgerError."""
    rows = f"{EVENTS} WHERE seq > :after ORDER BY seq LIMIT {_PAGE}"
    return (Event(*row) for row in _read_rows(location, rows))


def read_denials(location: LedgerLocation) -> Iterator[Denial]:
    """Oldest first. Raises LedgerError, also for a changed one: the hash chain does not cover denials."""
    rows = f"SELECT id, body FROM main.decisions WHERE id > :after ORDER BY id LIMIT {_PAGE}"  # noqa: S608 - our own words
    for _, body in _read_rows(location, rows):
        try:
            yield decode(Denial, body)
        except CodecError as exc:
            raise LedgerError(f"{location}: the log of denied cancels was changed: {exc}") from exc


def _read_rows(location: LedgerLocation, rows: str) -> Iterator[tuple[Any, ...]]:
    """Rows by their number, the first column. Each page is a snapshot of its own."""
    after = 0
    with open_read_only(location) as begin:
        while True:
            with begin() as snapshot:
                page = snapshot.execute(rows, {"after": after}).fetchall()
            if not page:
                return
            yield from page
            after = page[-1][0]
