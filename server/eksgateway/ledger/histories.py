"""Proves in the order of writing that each cancellation's row equals its events."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from eksgateway.ledger.database import Snapshot
from eksgateway.ledger.queries import COLUMNS
from eksgateway.ledger.text_projection import TextEvent, fold_texts
from eksgateway.ledger.verify_projection import is_sound

ROWS: Final = f"SELECT {', '.join(COLUMNS)} FROM main.cancellations ORDER BY created"  # noqa: S608 - our own words
_REPEATED: Final = (
    "SELECT cancellation_id FROM main.cancellations GROUP BY cancellation_id HAVING count(*) > 1 LIMIT 1"
)
_ID, _CREATED, _LATEST = (COLUMNS.index(each) for each in ("cancellation_id", "created", "latest"))
_MOST_KEPT: Final = 10_000  # events, which bounds the memory to 50 MB

_History = tuple[int, Any, list[TextEvent]]  # the number of its last event, its row, and its events so far


class Histories:
    """Keeps the events of each cancellation from its first one to the last one that its row names."""

    def __init__(self, rows: Iterator[Any]) -> None:
        """``rows`` are those of ROWS."""
        self.proved = 0
        self._rows = rows
        self._open: dict[str, _History] = {}
        self._kept = 0
        self._failed = False

    def add(self, cancellation_id: str, event: TextEvent) -> None:
        """An event of a sound chain, in its order."""
        history = self._open.get(cancellation_id) or self._begin(cancellation_id, event[0])
        if history is None:
            return
        latest, row, events = history
        events.append(event)
        self._kept += 1
        if event[0] == latest:
            del self._open[cancellation_id]
            self._kept -= len(events)
            self.proved += 1
            if fold_texts(events) != row and not is_sound(cancellation_id, events, row):
                self._fail()
        elif self._kept > _MOST_KEPT:
            self._fail()

    def _begin(self, cancellation_id: str, seq: int) -> _History | None:
        if cancellation_id == "" or self._failed:  # lost denials belong to no cancellation
            return None
        row = next(self._rows, None)
        if row is None or row[_ID] != cancellation_id or row[_CREATED] != seq:
            self._fail()
            return None
        history: _History = (row[_LATEST], row, [])
        self._open[cancellation_id] = history
        return history

    def are_proved(self, snapshot: Snapshot) -> bool:
        """Whether all rows of the ledger equal their events, and no event is without a row."""
        if self._failed or self._open or next(self._rows, None) is not None:
            return False
        # A second row of an id would have its own share of the id's events.
        return snapshot.execute(_REPEATED).fetchone() is None

    def _fail(self) -> None:
        self._failed = True
        self._open.clear()
