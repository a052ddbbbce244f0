"""Proves a ledger: the chain of hashes, and the cancellations folded from it. Reads only, over a
connection of its own, while a gateway may be running.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, text

from eksgateway.ledger.codec import CodecError, decode, encode
from eksgateway.ledger.hash_chain import GENESIS, Checkpoint, Event, fault
from eksgateway.ledger.inspection import open_snapshot
from eksgateway.ledger.listing import as_event
from eksgateway.ledger.projection import CancellationRecord, fold
from eksgateway.ledger.queries import to_row

_ROWS = 1000  # fetched at a time, so that a long ledger needs no more memory than a short one


@dataclass(frozen=True, slots=True)
class Inconsistency:
    """The first place where the ledger is not what was written: an event's ``seq``, and what is wrong."""

    seq: int
    what: str


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What was verified: ``broken`` is None for a sound ledger; ``head`` is the checkpoint to keep.

    ``missing`` says which events are known to have been written and are not there, and what to do.
    """

    events: int
    cancellations: int
    head: Checkpoint
    broken: Inconsistency | None = None
    missing: str = ""


def verify(path: Path, checkpoint: Checkpoint | None = None) -> VerifyReport:
    """Verify a ledger, and that an earlier checkpoint is still part of it.

    Without a checkpoint, newest events that were cut off cannot show. Raises LedgerError for a
    file that cannot be read.
    """
    with open_snapshot(path) as (connection, missing):
        head, broken = _chain(connection, checkpoint)
        cancellations = 0
        if broken is None:
            cancellations, broken = _projection(connection)
    return VerifyReport(head.seq, cancellations, head, broken, missing)


def _chain(connection: Connection, checkpoint: Checkpoint | None) -> tuple[Checkpoint, Inconsistency | None]:
    """The last sound place in the chain, and what breaks it after that."""
    head = GENESIS
    for event in _events(connection, "seq"):
        what = fault(head, event)
        if not what and checkpoint and event.seq == checkpoint.seq and event.hash != checkpoint.hash:
            what = "it is not the event that the checkpoint names: the chain was written anew"
        if what:
            return head, Inconsistency(head.seq + 1, what)
        head = event.checkpoint
    if checkpoint and checkpoint.seq > head.seq:
        return head, Inconsistency(
            head.seq + 1, f"the checkpoint names event {checkpoint.seq}: the tail was cut off"
        )
    return head, None


def _projection(connection: Connection) -> tuple[int, Inconsistency | None]:
    """How many cancellations are as their events say, and the first that is not (by its id)."""
    rows = _rows(connection, "SELECT * FROM cancellations ORDER BY cancellation_id")
    count, row = 0, next(rows, None)
    for key, history in groupby(_events(connection, "cancellation_id, seq"), attrgetter("cancellation_id")):
        if key == "":
            continue  # denials that were lost belong to no cancellation
        try:
            record = _folded(history)
        except _Unfoldable as exc:
            return count, Inconsistency(exc.seq, f"cancellation {key}: {exc}")
        if row is None or row.cancellation_id != key:
            if row is not None and str(row.cancellation_id) < key:
                break
            return count, Inconsistency(record.created, f"cancellation {key} is missing from the projection")
        if different := _differences(record, row):
            return count, Inconsistency(
                record.latest, f"cancellation {key} differs from its events in {different}"
            )
        count, row = count + 1, next(rows, None)
    if row is not None:
        return count, Inconsistency(
            0, f"cancellation {row.cancellation_id} is in the projection without any event"
        )
    return count, None


class _Unfoldable(Exception):
    def __init__(self, seq: int, what: str) -> None:
        super().__init__(what)
        self.seq = seq


def _folded(history: Iterator[Event]) -> CancellationRecord:
    record: CancellationRecord | None = None
    for event in history:
        try:
            record = fold(record, event)
        except CodecError as exc:
            raise _Unfoldable(event.seq, str(exc)) from exc
    assert record is not None  # noqa: S101 (groupby gives no empty group)
    return record


def _differences(record: CancellationRecord, row: Any) -> str:
    found = dict(row._mapping)  # noqa: SLF001 (SQLAlchemy's public name for it)
    if _holds(found["record"], record):  # an older version wrote it with fewer members
        found["record"] = encode(record)
    return ", ".join(name for name, value in to_row(record).items() if found[name] != value)


def _holds(stored: Any, record: CancellationRecord) -> bool:
    try:
        return isinstance(stored, str) and decode(CancellationRecord, stored) == record
    except CodecError:
        return False


def _events(connection: Connection, order: str) -> Iterator[Event]:
    return map(as_event, _rows(connection, f"SELECT * FROM events ORDER BY {order}"))  # noqa: S608 (our own words)


def _rows(connection: Connection, statement: str) -> Iterator[Any]:
    """Rows as they are stored: no type of ours may hide a difference."""
    return iter(connection.execution_options(yield_per=_ROWS).execute(text(statement)))
