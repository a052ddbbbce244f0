"""Folds events into cancellations. Pure; used for writing and by ``verify``.

The reasons below are stored in the projection. If one changes, ``verify`` fails on existing ledgers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, TypeVar

from eksgateway import phases
from eksgateway.ledger.codec import CodecError, decode
from eksgateway.ledger.hash_chain import Event, EventKind
from eksgateway.ledger.protocol import CancellationSummary
from eksgateway.model import Cancellation, Intent, Observation, Outcome, OutcomeKind, Phase, Update

T = TypeVar("T")

# EKS does not report which cancel it is carrying out, so an observation is no answer to this one.
OBSERVED: Final = "This was observed, not answered: EKS does not say whose cancel it carries out."
ACCEPTED: Final = "EKS accepted the cancel."
ALREADY: Final = "EKS is at a cancellation of this update already, whoever asked for it."
UNANSWERED: Final = "The intent is recorded, and nothing more is known yet."


@dataclass(frozen=True, slots=True)
class DenialsLost:
    """The number of denied cancels that could not be written to the denial log, or were dropped from it when
    it was ``full``.
    """

    count: int
    full: bool = False


@dataclass(frozen=True, slots=True)
class CancellationRecord:
    """A cancellation as folded so far; its field names are stored.

    ``seen`` is the update as seen since the intent or its renewal: earlier states are no effect of this
    cancel. ``ended`` is why following ended. ``created`` and ``latest`` are the sequence numbers of its first
    and newest event.

    ``known_at`` is the time of its state by the ledger's clock: when an intent or outcome was written, or an
    observed update was read. Records of earlier versions lack it until their next intent or outcome.
    """

    cancellation: Cancellation
    seen: Update | None
    ended: str | None
    created: int
    latest: int
    known_at: datetime | None = None

    def is_newer_than(self, observation: Observation) -> bool:
        return observation.time < (self.known_at or self.cancellation.update_time)

    def is_changed_by(self, observation: Observation) -> bool:
        """Whether an observation changes the record.

        One that is older than the record may be from before the cancel, and written late by another replica.
        So it counts only if it is final, or further along than what is known.
        """
        cancellation, update = self.cancellation, observation.update
        if cancellation.settled:
            return False
        if self.is_newer_than(observation):
            return update is not None and phases.rank(update) > phases.rank(cancellation.update)
        if update is None or update != cancellation.update:
            return True
        noted = observation.note in ("", cancellation.phase_reason)
        return cancellation.phase is Phase.OUTCOME_UNKNOWN and not noted


def fold(record: CancellationRecord | None, event: Event, body: Any = None) -> CancellationRecord:
    """The record after its next event. Raises CodecError for an event that cannot come next.

    ``body`` is what the event's text encodes, for a caller that has it: decoding an intent takes 50 µs.
    """

    def read(kind: type[T]) -> T:
        return decode(kind, event.body) if body is None else body

    try:
        kind = EventKind(event.kind)
    except ValueError as exc:
        raise CodecError("not a kind of event that is known") from exc
    if kind is EventKind.INTENT and record is None:
        return _start(read(Intent), event)
    if record is None or kind in (EventKind.INTENT, EventKind.DENIALS_LOST):
        raise CodecError(f"{kind} cannot come here")
    record = replace(record, latest=event.seq)
    if kind is EventKind.OBSERVATION:
        return _add_observation(record, read(Observation))
    record = replace(record, known_at=_event_time(event))
    if kind is EventKind.INTENT_RENEWED:
        return _renew(record, read(Intent))
    return _add_outcome(record, read(Outcome))


def summarize(
    records: Sequence[CancellationRecord], newest: CancellationRecord | None, observation: Observation
) -> CancellationSummary:
    """Of an update's records, with the observation in them. ``newest`` need not be one of them."""
    pending = [each.cancellation for each in records if not each.cancellation.settled]
    outdated = observation.update is not None and any(each.update != observation.update for each in pending)
    return CancellationSummary(newest.cancellation if newest else None, bool(pending), outdated)


def _event_time(event: Event) -> datetime:
    try:
        return datetime.fromisoformat(event.time)
    except ValueError as exc:
        raise CodecError("its time is malformed") from exc


def _start(intent: Intent, event: Event) -> CancellationRecord:
    cancellation = Cancellation(
        intent=intent,
        phase=Phase.OUTCOME_UNKNOWN,
        phase_reason=UNANSWERED,
        update=intent.update,
        outcome=None,
        settled=False,
        forward_time=None,
        update_time=intent.time,
    )
    return CancellationRecord(
        cancellation,
        seen=None,
        ended=None,
        created=event.seq,
        latest=event.seq,
        known_at=_event_time(event),
    )


def _renew(record: CancellationRecord, renewed: Intent) -> CancellationRecord:
    """With the new decision and its facts. The intent keeps the time of the first request."""
    previous = record.cancellation
    intent = replace(renewed, time=previous.intent.time)
    cancellation = replace(
        previous, intent=intent, update=intent.update, outcome=None, update_time=renewed.time
    )
    return derive(replace(record, cancellation=cancellation, seen=None, ended=None))


def _add_outcome(record: CancellationRecord, outcome: Outcome) -> CancellationRecord:
    previous = record.cancellation
    if outcome.kind is OutcomeKind.UNKNOWN and previous.outcome is not None:
        return record  # EKS's late answer was written first
    sent = outcome.kind in (OutcomeKind.ACCEPTED, OutcomeKind.REFUSED, OutcomeKind.UNKNOWN)
    sent = sent or (outcome.kind is OutcomeKind.ALREADY_CANCELLING and outcome.error is not None)
    cancellation = replace(
        previous,
        outcome=outcome,
        forward_time=previous.forward_time or (outcome.time if sent else None),
        update_time=outcome.time,
    )
    seen = _further_along(record.seen, outcome.update)
    if seen is None and outcome.kind is OutcomeKind.ALREADY_CANCELLING:
        seen = previous.update  # because of this state nothing was sent
    return derive(replace(record, cancellation=cancellation, seen=seen))


def _further_along(seen: Update | None, answered: Update | None) -> Update | None:
    """EKS's answer is older than its record, so a poll may have seen a later state."""
    if seen is None or answered is None:
        return seen or answered
    return answered if phases.rank(answered) >= phases.rank(seen) else seen


def _add_observation(record: CancellationRecord, observation: Observation) -> CancellationRecord:
    cancellation = replace(record.cancellation, update_time=observation.time)
    if record.known_at is not None and not record.is_newer_than(observation):
        record = replace(record, known_at=observation.time)
    if observation.update is None:
        return derive(replace(record, cancellation=cancellation, ended=observation.note))
    return derive(replace(record, cancellation=cancellation, seen=observation.update), observation.note)


def derive(record: CancellationRecord, note: str = "") -> CancellationRecord:
    """With the phase and all that follows from it. ``note``: what the last observation means for a cancel
    without an answer.
    """
    cancellation = record.cancellation
    phase = phases.phase_of(cancellation.outcome, record.seen)
    cancellation = replace(
        cancellation,
        phase=phase,
        phase_reason=note if note and phase is Phase.OUTCOME_UNKNOWN else _reason(record, phase),
        update=record.seen or cancellation.update,
        settled=phase in phases.SETTLED or record.ended is not None,
    )
    return replace(record, cancellation=cancellation)


def _reason(record: CancellationRecord, phase: Phase) -> str:
    outcome = record.cancellation.outcome
    if record.ended is not None and phase not in phases.SETTLED:
        return record.ended
    if phase in (Phase.NOT_FORWARDED, Phase.TOO_LATE, Phase.REJECTED, Phase.OUTCOME_UNKNOWN):
        return UNANSWERED if outcome is None else outcome.error.message if outcome.error else ""
    if outcome is None or outcome.kind is OutcomeKind.UNKNOWN:
        return OBSERVED
    if phase is Phase.REQUESTED:
        return ALREADY if _was_requested_before(record.cancellation, outcome) else ACCEPTED
    if phase is Phase.CANCELLATION_FAILED and record.seen and record.seen.cancellation:
        return f"EKS says that the cancellation failed: {record.seen.cancellation.reason}"
    return f"EKS says that the update is {(record.seen or record.cancellation.update).status}."


def _was_requested_before(cancellation: Cancellation, outcome: Outcome) -> bool:
    """Whether EKS was carrying out another cancellation that the update's status did not show.

    Where the status showed it, the reason stays ACCEPTED: existing ledgers hold that, and a record is folded
    the same way in every version.
    """
    already = outcome.kind is OutcomeKind.ALREADY_CANCELLING
    return already and (outcome.error is not None or cancellation.intent.update.status != "Cancelling")
