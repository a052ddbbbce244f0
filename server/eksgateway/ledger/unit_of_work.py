"""A batch of writes in memory: the rows that it has read, and its changes. Pure, no SQL."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any

from eksgateway import errors
from eksgateway.ledger.codec import encode, format_time
from eksgateway.ledger.hash_chain import Checkpoint, Event, EventKind, link
from eksgateway.ledger.projection import CancellationRecord, fold
from eksgateway.ledger.record_texts import decode_record
from eksgateway.model import Cancellation, Intent, Outcome, UpdateRef

RequestKey = tuple[str, str]  # the caller's id, and its request_id


@dataclass(frozen=True, slots=True)
class ReadKeys:
    """The rows that an operation reads. They are read before it runs."""

    cancellations: Collection[str] = ()
    requests: Collection[RequestKey] = ()
    updates: Collection[UpdateRef] = ()  # their cancellations that are not settled, and the newest
    outcomes: Collection[str] = ()  # all outcomes of these cancellations
    denials: bool = False
    denial_bodies: Collection[str] = ()  # PostgreSQL only: which of these are among the newest

    @classmethod
    def merge(cls, keys: Sequence[ReadKeys]) -> ReadKeys:
        return cls(
            cancellations={key for each in keys for key in each.cancellations},
            requests={key for each in keys for key in each.requests},
            updates={key for each in keys for key in each.updates},
            outcomes={key for each in keys for key in each.outcomes},
            denials=any(each.denials for each in keys),
            denial_bodies={body for each in keys for body in each.denial_bodies},
        )


class ReadRows:
    """The rows that a batch has read. Those that no operation named are missing, and raise KeyError."""

    denial_ids: range  # without gaps

    def __init__(self, keys: ReadKeys, head: Checkpoint) -> None:
        self.head = head
        self.records: dict[str, str | None] = dict.fromkeys(keys.cancellations)  # encoded
        groups: tuple[RequestKey | UpdateRef, ...] = (*keys.requests, *keys.updates)
        self.ids = {key: set[str]() for key in groups}
        self.denial_bodies = set[str]()
        self.outcomes = {each: set[str]() for each in keys.outcomes}  # encoded


@dataclass(frozen=True, slots=True)
class Changes:
    """The changes of a batch. ``records`` are new or changed; ``dropped`` counts the oldest denials.

    ``forwards`` are the cancellations that this replica forwards, and until when.
    """

    events: tuple[Event, ...] = ()
    records: Mapping[str, CancellationRecord] = field(default_factory=dict)
    forwards: Mapping[str, datetime] = field(default_factory=dict)
    denials: tuple[dict[str, Any], ...] = ()
    dropped: int = 0
    probe_time: str = ""


class UnitOfWork:
    """The rows as the operations have changed them so far."""

    def __init__(self, rows: ReadRows, now: Callable[[], datetime]) -> None:
        self.rows = rows
        self.changes = Changes()
        self._now = now
        self._decoded: dict[str, CancellationRecord] = {}  # unchanged ones

    def change(self, **changes: Any) -> None:
        self.changes = replace(self.changes, **changes)

    @property
    def head(self) -> Checkpoint:
        events = self.changes.events
        return events[-1].checkpoint if events else self.rows.head

    def append(self, kind: EventKind, cancellation_id: str, body: Any) -> Event:
        event = link(self.head, self.format_now(), kind, cancellation_id, encode(body))
        self.change(events=(*self.changes.events, event))
        return event

    def advance(self, cancellation_id: str, kind: EventKind, body: Any) -> Cancellation:
        """Append an event of a cancellation, and change its record."""
        event = self.append(kind, cancellation_id, body)
        record = fold(self._find_record(cancellation_id), event, body)
        self.change(records={**self.changes.records, cancellation_id: record})
        intent = record.cancellation.intent
        for key in (request_key(intent), intent.request.ref):
            if key in self.rows.ids:
                self.rows.ids[key].add(cancellation_id)  # if this is undone, it has no record
        return record.cancellation

    def set_forward(self, cancellation_id: str, seconds: float) -> None:
        """This replica may forward the cancellation for these seconds."""
        before = self._now() + timedelta(seconds=seconds)
        self.change(forwards={**self.changes.forwards, cancellation_id: before})

    def find(self, cancellation_id: str) -> Cancellation | None:
        record = self._find_record(cancellation_id)
        return record.cancellation if record else None

    def get(self, cancellation_id: str) -> Cancellation:
        cancellation = self.find(cancellation_id)
        if cancellation is None:
            raise errors.CancellationNotFound
        return cancellation

    def find_all(self, key: RequestKey | UpdateRef) -> list[Cancellation]:
        """Of a request, or of an update (without older ones that are settled); oldest first."""
        return [each.cancellation for each in self.find_records(key)]

    def find_records(self, key: RequestKey | UpdateRef) -> list[CancellationRecord]:
        records = [record for each in self.rows.ids[key] if (record := self._find_record(each))]
        return sorted(records, key=attrgetter("created"))

    def is_recorded(self, cancellation_id: str, outcome: Outcome) -> bool:
        body = encode(outcome)
        return body in self.rows.outcomes[cancellation_id] or any(
            (event.cancellation_id, event.kind, event.body) == (cancellation_id, EventKind.OUTCOME, body)
            for event in self.changes.events
        )

    @property
    def denial_ids(self) -> range:
        stored, changes = self.rows.denial_ids, self.changes
        return range(stored.start + changes.dropped, stored.stop + len(changes.denials))

    def format_now(self) -> str:
        return format_time(self._now())

    def _find_record(self, cancellation_id: str) -> CancellationRecord | None:
        record = self.changes.records.get(cancellation_id) or self._decoded.get(cancellation_id)
        if record is None and (stored := self.rows.records[cancellation_id]) is not None:
            record = self._decoded[cancellation_id] = decode_record(stored)
        return record


def request_key(intent: Intent) -> RequestKey:
    return intent.caller.id, intent.request_id
