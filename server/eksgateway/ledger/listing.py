"""Reading a ledger from outside the gateway, also while one is running: for ``eksgateway ledger``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select

from eksgateway.ledger import queries
from eksgateway.ledger.codec import CodecError, decode
from eksgateway.ledger.hash_chain import Event
from eksgateway.ledger.inspection import inspecting, open_read_only
from eksgateway.ledger.protocol import HistoryFilter, HistoryPage
from eksgateway.ledger.schema import decisions, events
from eksgateway.ledger.sqlite import LedgerError
from eksgateway.model import Denial

_PAGE = 1000


def list_events(path: Path, *, cancellation_id: str = "", after: int = 0, limit: int = _PAGE) -> list[Event]:
    """Events, oldest first: of one cancellation or of all, from behind a sequence number on."""
    with inspecting(path) as connection:
        return _events(connection, cancellation_id, after, limit)


def read_events(path: Path) -> Iterator[Event]:
    """All events, oldest first, a page at a time, each in a snapshot of its own."""
    after = 0
    with open_read_only(path) as engine:
        while True:
            with engine.begin() as connection:
                page = _events(connection, "", after, _PAGE)
            if not page:
                return
            yield from page
            after = page[-1].seq


def _events(connection: Connection, cancellation_id: str, after: int, limit: int) -> list[Event]:
    rows = select(events).where(events.c.seq > after).order_by(events.c.seq).limit(limit)
    if cancellation_id:
        rows = rows.where(events.c.cancellation_id == cancellation_id)
    return [as_event(row) for row in connection.execute(rows)]


def list_cancellations(path: Path, which: HistoryFilter, limit: int, before: str = "") -> HistoryPage:
    """Cancellations, newest first, as ``Ledger.history``."""
    with inspecting(path) as connection:
        return queries.page(connection, which, limit, before)


def list_denials(path: Path, *, limit: int = 1000) -> list[Denial]:
    """Denied cancels of the decision log, newest first."""
    with inspecting(path) as connection:
        rows = connection.execute(select(decisions.c.body).order_by(decisions.c.id.desc()).limit(limit))
        return [decode(Denial, row.body) for row in rows]


def read_denials(path: Path) -> Iterator[Denial]:
    """All denied cancels of the decision log, oldest first, a page at a time. Raises LedgerError, also
    for one that was changed: the log is no part of the chain.
    """
    rows = select(decisions.c.id, decisions.c.body).order_by(decisions.c.id).limit(_PAGE)
    after = 0
    with open_read_only(path) as engine:
        while True:
            with engine.begin() as connection:
                page = connection.execute(rows.where(decisions.c.id > after)).all()
            if not page:
                return
            try:
                yield from [decode(Denial, row.body) for row in page]
            except CodecError as exc:
                raise LedgerError(f"{path}: the log of denied cancels was changed: {exc}") from exc
            after = page[-1].id


def as_event(row: Any) -> Event:
    """A row of ``events``, as it is stored."""
    return Event(*(getattr(row, name) for name in Event.__slots__))
