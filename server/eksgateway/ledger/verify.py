"""Verifies a ledger: the hash chain, and the cancellations folded from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from operator import attrgetter
from typing import Any

from eksgateway.ledger.codec import CodecError, decode, encode
from eksgateway.ledger.database import LedgerLocation, Snapshot
from eksgateway.ledger.hash_chain import GENESIS, Checkpoint, Event, find_fault
from eksgateway.ledger.inspection import open_snapshot
from eksgateway.ledger.projection import CancellationRecord, fold
from eksgateway.ledger.queries import COLUMNS, EVENTS, to_row


@dataclass(frozen=True, slots=True)
class Defect:
    """The first event that is not as it was written."""

    seq: int
    what: str


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """``head`` is the checkpoint to keep. ``missing`` names written events that are not there."""

    events: int
    cancellations: int
    head: Checkpoint
    broken: Defect | None = None
    missing: str = ""


def verify(location: LedgerLocation, checkpoint: Checkpoint | None = None) -> VerifyReport:
    """Also verify that the ledger contains an earlier checkpoint: without one, the removal of the newest
    events may not show. Raises LedgerError for a ledger that cannot be read.
    """
    with open_snapshot(location) as (snapshot, missing):
        return replace(verify_snapshot(snapshot, checkpoint), missing=missing)


def verify_snapshot(snapshot: Snapshot, checkpoint: Checkpoint | None = None) -> VerifyReport:
    head, broken = _verify_chain(snapshot, checkpoint)
    cancellations = 0
    if broken is None:
        cancellations, broken = _verify_projection(snapshot)
    return VerifyReport(head.seq, cancellations, head, broken)


def fold_all(snapshot: Snapshot) -> Iterator[CancellationRecord]:
    """The cancellations of a sound ledger, by id."""
    for key, history in _read_histories(snapshot):
        record = _fold_history(key, history)
        assert isinstance(record, CancellationRecord)  # noqa: S101
        yield record


def _verify_chain(snapshot: Snapshot, checkpoint: Checkpoint | None) -> tuple[Checkpoint, Defect | None]:
    head = GENESIS
    for event in _events(snapshot, "seq"):
        what = find_fault(head, event)
        if not what and checkpoint and event.seq == checkpoint.seq and event.hash != checkpoint.hash:
            what = "it is not the event that the checkpoint names: the chain was written anew"
        if what:
            return head, Defect(head.seq + 1, what)
        head = event.checkpoint
    if checkpoint and checkpoint.seq > head.seq:
        return head, Defect(
            head.seq + 1, f"the checkpoint names event {checkpoint.seq}: the tail was cut off"
        )
    return head, None


def _verify_projection(snapshot: Snapshot) -> tuple[int, Defect | None]:
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


def _read_histories(snapshot: Snapshot) -> Iterator[tuple[str, Iterator[Event]]]:
    for key, history in groupby(_events(snapshot, "cancellation_id, seq"), attrgetter("cancellation_id")):
        if key != "":  # lost denials belong to no cancellation
            yield key, history


def _fold_history(cancellation_id: str, history: Iterator[Event]) -> CancellationRecord | Defect:
    record: CancellationRecord | None = None
    for event in history:
        try:
            record = fold(record, event)
        except CodecError as exc:
            return Defect(event.seq, f"cancellation {cancellation_id}: {exc}")
    assert record is not None  # noqa: S101 (groupby gives no empty group)
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


def _events(snapshot: Snapshot, order: str) -> Iterator[Event]:
    with snapshot.stream(f"{EVENTS} ORDER BY {order}") as rows:
        for row in rows:
            yield Event(*row)
