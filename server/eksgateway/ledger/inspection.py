"""Reads a ledger from programs other than its gateway, also while that runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import Column, Connection, Engine, Row, Select, select

from eksgateway.ledger.codec import CodecError, decode
from eksgateway.ledger.database import LedgerError, LedgerLocation
from eksgateway.ledger.hash_chain import Event
from eksgateway.ledger.migrate import require_readable
from eksgateway.ledger.schema import decisions, events
from eksgateway.ledger.sqlite.completeness import find_missing_events
from eksgateway.ledger.sqlite.files import read_noted_head, wal_bytes
from eksgateway.ledger.sqlite.read_only import open_files
from eksgateway.model import Denial
from eksgateway.settings import PostgresLocation

_PAGE: Final = 1000


@contextmanager
def open_read_only(location: LedgerLocation) -> Iterator[Engine]:
    """An engine that reads a ledger of this version's schema.

    Raises LedgerError, also for errors of the database in the block.
    """
    if isinstance(location, PostgresLocation):
        from eksgateway.ledger.postgres.read_only import open_schema  # noqa: PLC0415 - loads psycopg

        with open_schema(location) as engine:
            yield engine
        return
    with open_files(location) as engine:
        with engine.begin() as connection:
            require_readable(connection, location)
        yield engine


@contextmanager
def open_snapshot(location: LedgerLocation) -> Iterator[tuple[Connection, str]]:
    """A connection in one snapshot, and the text of ``find_missing_events``."""
    if isinstance(location, PostgresLocation):
        with open_read_only(location) as engine, engine.begin() as connection:
            yield connection, ""
        return
    noted_head, had_wal = read_noted_head(location), wal_bytes(location) > 0
    with open_read_only(location) as engine, engine.begin() as connection:
        # A gateway that has started meanwhile filled the -wal file before it marked the main one.
        has_wal = had_wal or wal_bytes(location) > 0
        yield connection, find_missing_events(connection, location, noted_head, has_wal=has_wal)


def read_events(location: LedgerLocation) -> Iterator[Event]:
    """Oldest first. Raises LedgerError."""
    return map(as_event, _read_rows(location, select(events), events.c.seq))


def read_denials(location: LedgerLocation) -> Iterator[Denial]:
    """Oldest first. Raises LedgerError, also for a changed one: the hash chain does not cover denials."""
    for row in _read_rows(location, select(decisions), decisions.c.id):
        try:
            yield decode(Denial, row.body)
        except CodecError as exc:
            raise LedgerError(f"{location}: the log of denied cancels was changed: {exc}") from exc


def as_event(row: Any) -> Event:
    return Event(*(getattr(row, name) for name in Event.__slots__))


def _read_rows(location: LedgerLocation, rows: Select[Any], key: Column[Any]) -> Iterator[Row[Any]]:
    """Rows by their first column, ``key``. Each page is a snapshot of its own."""
    page_rows = rows.order_by(key).limit(_PAGE)
    after = 0
    with open_read_only(location) as engine:
        while True:
            with engine.begin() as connection:
                page = connection.execute(page_rows.where(key > after)).all()
            if not page:
                return
            yield from page
            after = page[-1][0]
