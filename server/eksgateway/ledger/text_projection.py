"""Folds the texts of a cancellation's events into its row, without decoding them.

For histories of canonical texts without a renewal, it does what ``projection.fold`` and ``queries.to_row``
do, in 14 µs instead of 380. ``verify`` proves by it that a row is sound, never that one is not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from types import SimpleNamespace
from typing import Any, Final

from eksgateway import phases
from eksgateway.ledger.canonical import TIME, pattern_of
from eksgateway.ledger.codec import encode
from eksgateway.ledger.hash_chain import EventKind
from eksgateway.ledger.projection import CancellationRecord, derive
from eksgateway.model import (
    Cancellation,
    ErrorRecord,
    Intent,
    Observation,
    Outcome,
    OutcomeKind,
    Phase,
    Update,
    UpdateCancellation,
)

TextEvent = tuple[int, str, str, str]  # an event's number, time, kind and body


class _NotPlain(Exception):
    """The history has to be decoded."""


class _Members:
    """Reads the JSON texts of these members from canonical bodies."""

    def __init__(self, kind: type, *paths: str) -> None:
        self._match = pattern_of(kind, paths).fullmatch
        self._names = [path.replace(".", "_") for path in paths]

    def read(self, body: str) -> tuple[Any, ...]:
        found = self._match(body)
        if found is None:
            raise _NotPlain
        return found.group(*self._names)


_CLUSTER: Final = "request.ref.cluster"
_IDS: Final = (
    *(f"{_CLUSTER}.account_id", f"{_CLUSTER}.region", f"{_CLUSTER}.name", "request.ref.update_id"),
    *("cancellation_id", "caller.id", "request_id"),
)
_UPDATE: Final = ("update", "update.status", "update.cancellation")
_INTENT: Final = _Members(Intent, "cluster.tags", "time", *_UPDATE, *_IDS)
_OUTCOME: Final = _Members(
    Outcome, "kind", "time", "cluster_status", "error.message", "error.metadata", *_UPDATE
)
_OBSERVATION: Final = _Members(Observation, "time", "note", *_UPDATE)
_is_time: Final = re.compile(TIME).fullmatch
_OUTCOMES: Final = (EventKind.OUTCOME.value, EventKind.CLOSED.value)
_UNKNOWN, _ALREADY = (f'"{each}"' for each in (OutcomeKind.UNKNOWN, OutcomeKind.ALREADY_CANCELLING))
_SENT: Final = tuple(f'"{each}"' for each in (OutcomeKind.ACCEPTED, OutcomeKind.REFUSED, OutcomeKind.UNKNOWN))


def fold_texts(history: Sequence[TextEvent]) -> tuple[Any, ...] | None:
    """The values of ``queries.COLUMNS``, or None for a history that has to be decoded."""
    try:
        folded = _Fold(history[0])
        for _, time, kind, body in history[1:]:
            if kind == "observation":
                folded.add_observation(body)
            elif kind in _OUTCOMES:
                folded.add_outcome(time, body)
            else:
                return None
    except _NotPlain:
        return None
    return folded.row(latest=history[-1][0])


class _Fold:
    """The JSON texts of a record."""

    __slots__ = (
        *("created", "ended", "forward_time", "ids", "intent", "known_at", "note", "outcome", "outcome_text"),
        *("seen", "seen_text", "status", "update", "update_time"),
    )

    def __init__(self, event: TextEvent) -> None:
        self.created, time, kind, self.intent = event
        if kind != "intent" or not _is_time(time):
            raise _NotPlain
        tags, self.update_time, self.update, status, shown, *ids = _INTENT.read(self.intent)
        self.ids = "".join(ids)
        if "\\" in self.ids:
            raise _NotPlain
        _require_canonical(tags)
        self.status = status, shown
        self.known_at = f'"{time}"'
        self.forward_time = self.ended = self.outcome_text = self.seen_text = "null"
        self.outcome: tuple[str, str, str | None] | None = None
        self.seen: tuple[str, str] | None = None
        self.note = '""'

    def add_observation(self, body: str) -> None:
        self.update_time, note, update, status, shown = _OBSERVATION.read(body)
        self.known_at = max(self.known_at, self.update_time)
        if update == "null":
            self.ended, self.note = note, '""'
        else:
            self.seen_text, self.seen, self.note = update, (status, shown), note

    def add_outcome(self, written: str, body: str) -> None:
        kind, time, cluster_status, message, metadata, update, status, shown = _OUTCOME.read(body)
        if not _is_time(written):
            raise _NotPlain
        if metadata:
            _require_canonical(metadata)
        self.known_at = f'"{written}"'
        if kind == _UNKNOWN and self.outcome:
            return
        self.outcome_text, self.outcome = body, (kind, cluster_status, message)
        if self.forward_time == "null" and (kind in _SENT or (kind == _ALREADY and message)):
            self.forward_time = time
        self.update_time, self.note = time, '""'
        if update != "null":
            if self.seen is None or _rank(status, shown) >= _rank(*self.seen):
                self.seen_text, self.seen = update, (status, shown)
        elif self.seen is None and kind == _ALREADY:
            self.seen_text, self.seen = self.update, self.status

    def row(self, latest: int) -> tuple[Any, ...]:
        phase, reason, settled = _derive(self.outcome, self.seen, self.ended, self.note, self.status)
        record = (
            f'{{"cancellation":{{"forward_time":{self.forward_time},"intent":{self.intent},"outcome":'
            f'{self.outcome_text},"phase":"{phase}","phase_reason":{reason},"settled":'
            f'{"true" if settled else "false"},"update":{self.seen_text if self.seen else self.update}'
            f',"update_time":{self.update_time}}},"created":{self.created},"ended":{self.ended}'
            f',"known_at":{self.known_at},"latest":{latest},"seen":{self.seen_text}}}'
        )
        *of_update, cancellation_id, caller_id, request_id = self.ids[1:-1].split('""')
        numbers = (cancellation_id, self.created, latest)
        return (*of_update, *numbers, caller_id, request_id, phase, not settled, record)


def _require_canonical(dictionary: str) -> None:
    if dictionary != "{}" and not _is_canonical(dictionary):
        raise _NotPlain


# The caches serve nearly all: tags are those of a cluster, and the other texts are few.
@lru_cache(maxsize=1000)
def _is_canonical(text: str) -> bool:
    return encode(json.loads(text)) == text


@lru_cache(maxsize=1000)
def _rank(status: str, cancellation: str) -> int:
    return phases.rank(_update(status, cancellation))


@lru_cache(maxsize=1000)
def _derive(
    outcome: tuple[str, str, str | None] | None,
    seen: tuple[str, str] | None,
    ended: str,
    note: str,
    of_intent: tuple[str, str],
) -> tuple[str, str, bool]:
    """The phase, its reason in JSON, and whether it is settled."""
    update = _update(*of_intent)
    intent: Any = SimpleNamespace(update=update)  # nothing else of it is read
    cancellation = Cancellation(
        intent=intent,
        phase=Phase.OUTCOME_UNKNOWN,
        phase_reason="",
        update=update,
        outcome=_outcome(*outcome) if outcome else None,
        settled=False,
        forward_time=None,
        update_time=_ANY_TIME,
    )
    record = CancellationRecord(
        cancellation,
        seen=_update(*seen) if seen else None,
        ended=json.loads(ended),
        created=0,
        latest=0,
    )
    derived = derive(record, json.loads(note)).cancellation
    return derived.phase.value, encode(derived.phase_reason), derived.settled


_ANY_TIME: Final = datetime(2000, 1, 1, tzinfo=UTC)


def _outcome(kind: str, cluster_status: str, message: str | None) -> Outcome:
    error = None if message is None else ErrorRecord("", json.loads(message))
    return Outcome(OutcomeKind(json.loads(kind)), _ANY_TIME, None, error, json.loads(cluster_status))


def _update(status: str, cancellation: str) -> Update:
    shown = json.loads(cancellation)
    return Update("", json.loads(status), "", cancellation=UpdateCancellation(**shown) if shown else None)
