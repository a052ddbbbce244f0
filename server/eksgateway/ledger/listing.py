"""Reads all events and denied cancels from outside the gateway, also while one is running."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Column, Row, Select, select

from eksgateway.ledger.codec import CodecError, decode
from eksgateway.ledger.database import LedgerError
from eksgateway.ledger.hash_chain import Event
from eksgateway.ledger.inspection import open_read_only
from eksgateway.ledger.schema import decisions, events
from eksgateway.model import Denial

_PAGE: Final = 1000


def read_events(path: Path) -> Iterator[Event]:
    """All events, oldest first. Raises LedgerError."""
    return map(as_event, _read_rows(path, select(events), events.c.seq))


def read_denials(path: Path) -> Iterator[Denial]:
    """All denied cancels of the denial log, oldest first.

    Raises LedgerError, also for one that was changed: the hash chain does not cover the denial log.
    """
    for row in _read_rows(path, select(decisions), decisions.c.id):
        try:
            yield decode(Denial, row.body)
        except CodecError as exc:
            raise LedgerError(f"{path}: the log of denied cancels was changed: {exc}") from exc


def as_event(row: Any) -> Event:
    """A row of ``events``, as it is stored."""
    return Event(*(getattr(row, name) for name in Event.__slots__))


def _read_rows(path: Path, rows: Select[Any], key: Column[Any]) -> Iterator[Row[Any]]:
    """Rows in the order of their first column, ``key``. Each page is read in a snapshot of its own."""
    page_rows = rows.order_by(key).limit(_PAGE)
    after = 0
    with open_read_only(path) as engine:
        while True:
            with engine.begin() as connection:
                page = connection.execute(page_rows.where(key > after)).all()
            if not page:
                return
            yield from page
            after = page[-1][0]
