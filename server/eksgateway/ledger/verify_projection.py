"""Compares the rows of cancellations with their events, both decoded, and names the first that differs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from operator import attrgetter
from typing import Any

from eksgateway.ledger.codec import CodecError, decode, encode
from eksgateway.ledger.database import Snapshot
from eksgateway.ledger.hash_chain import Event
from eksgateway.ledger.projection import CancellationRecord, fold
from eksgateway.ledger.queries import COLUMNS, EVENTS, to_row
from eksgateway.ledger.text_projection import TextEvent


@dataclass(frozen=True, slots=True)
class Defect:
    """The first event that is not as it was written."""

    seq: int
    what: str


def verify_projection(snapshot: Snapshot) -> tuple[int, Defect | None]:
    """The number of cancellations that equal their events, and the first that differs."""
    rows = _read_projection(snapshot)
    count, row = 0, next(rows, None)
    for key, history in _read_histories(snapshot):
        record = _fold_history(key, history)
        if isinstance(record, Defect):
            return count, record
        if row is None or row["cancellation_id"] != key:
            if row is not None and str(row["cancellation_id"]) < key:
                break
            return count, Defect(record.created, f"cancellation {key} is missing from the projection")
        if different := _find_differences(record, row):
            return count, Defect(record.latest, f"cancellation {key} differs from its events in {different}")
        count, row = count + 1, next(rows, None)
    if row is not None:
        key = row["cancellation_id"]
        return count, Defect(0, f"cancellation {key} is in the projection without any event")
    return count, None


def is_sound(cancellation_id: str, history: Iterable[TextEvent], row: tuple[Any, ...]) -> bool:
    """Whether a row, with the values of COLUMNS, equals its history."""
    events = (Event(seq, time, kind, cancellation_id, body, "", "") for seq, time, kind, body in history)
    record = _fold_history(cancellation_id, events)
    found = dict(zip(COLUMNS, row, strict=True))
    return isinstance(record, CancellationRecord) and not _find_differences(record, found)


def fold_all(snapshot: Snapshot) -> Iterator[CancellationRecord]:
    """The cancellations of a sound ledger, by id."""
    for key, history in _read_histories(snapshot):
        record = _fold_history(key, history)
        assert isinstance(record, CancellationRecord)  # noqa: S101
        yield record


def _read_histories(snapshot: Snapshot) -> Iterator[tuple[str, Iterator[Event]]]:
    for key, history in groupby(_events(snapshot), attrgetter("cancellation_id")):
        if key != "":  # lost denials belong to no cancellation
            yield key, history


def _fold_history(cancellation_id: str, history: Iterable[Event]) -> CancellationRecord | Defect:
    record: CancellationRecord | None = None
    for event in history:
        try:
            record = fold(record, event)
        except CodecError as exc:
            return Defect(event.seq, f"cancellation {cancellation_id}: {exc}")
    assert record is not None  # noqa: S101 (no history is empty)
    return record


def _find_differences(record: CancellationRecord, found: dict[str, Any]) -> str:
    if _is_encoding_of(found["record"], record):  # with the fields of an older version
        found["record"] = encode(record)
    return ", ".join(name for name, value in to_row(record).items() if found[name] != value)


def _is_encoding_of(stored: Any, record: CancellationRecord) -> bool:
    try:
        return isinstance(stored, str) and decode(CancellationRecord, stored) in (
            record,
            replace(record, known_at=None),
        )
    except CodecError:
        return False


def _read_projection(snapshot: Snapshot) -> Iterator[dict[str, Any]]:
    statement = f"SELECT {', '.join(COLUMNS)} FROM main.cancellations ORDER BY cancellation_id"  # noqa: S608 - our own words
    with snapshot.stream(statement) as rows:
        for row in rows:
            yield dict(zip(COLUMNS, row, strict=True))


def _events(snapshot: Snapshot) -> Iterator[Event]:
    with snapshot.stream(f"{EVENTS} ORDER BY cancellation_id, seq") as rows:
        for row in rows:
            yield Event(*row)
