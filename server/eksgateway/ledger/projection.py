"""From events to cancellations: a pure fold, the same for writing and for ``verify``."""

from __future__ import annotations

from dataclasses import dataclass, replace

from eksgateway import phases
from eksgateway.ledger.codec import CodecError, decode
from eksgateway.ledger.hash_chain import Event, EventKind
from eksgateway.model import Cancellation, Intent, Observation, Outcome, OutcomeKind, Phase, Update

# EKS does not say whose cancel it carries out, so what is only seen is told apart from an answer.
OBSERVED = "This was observed, not answered: EKS does not say whose cancel it carries out."
ACCEPTED = "EKS accepted the cancel."
ALREADY = "EKS is at a cancellation of this update already, whoever asked for it."
UNANSWERED = "The intent is recorded, and nothing more is known yet."


@dataclass(frozen=True, slots=True)
class DenialsLost:
    """How many denied cancels could not be written to the decision log, or went when it was ``full``."""

    count: int
    full: bool = False


@dataclass(frozen=True, slots=True)
class CancellationRecord:
    """A cancellation as folded so far.

    ``seen`` is the update as seen since the intent (or its renewal): what was there before says
    nothing about this cancel. ``ended`` is why following ended. ``created`` and ``latest`` are the
    sequence numbers of its first and its newest event.
    """

    cancellation: Cancellation
    seen: Update | None
    ended: str | None
    created: int
    latest: int


def fold(record: CancellationRecord | None, event: Event) -> CancellationRecord:
    """The record after one more of its events. Raises CodecError for an event that cannot be next."""
    try:
        kind = EventKind(event.kind)
    except ValueError as exc:
        raise CodecError("not a kind of event that is known") from exc
    if kind is EventKind.INTENT and record is None:
        return _begun(decode(Intent, event.body), event.seq)
    if record is None or kind in (EventKind.INTENT, EventKind.DENIALS_LOST):
        raise CodecError(f"{kind} cannot come here")
    record = replace(record, latest=event.seq)
    if kind is EventKind.INTENT_RENEWED:
        return _renewed(record, decode(Intent, event.body))
    if kind is EventKind.OBSERVATION:
        return _observed(record, decode(Observation, event.body))
    return _answered(record, decode(Outcome, event.body))


def _begun(intent: Intent, seq: int) -> CancellationRecord:
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
    return CancellationRecord(cancellation, seen=None, ended=None, created=seq, latest=seq)


def _renewed(record: CancellationRecord, renewed: Intent) -> CancellationRecord:
    """Decided anew on new facts; it was still asked for when it was first asked for."""
    known = record.cancellation
    intent = replace(renewed, time=known.intent.time)
    cancellation = replace(known, intent=intent, update=intent.update, outcome=None, update_time=renewed.time)
    return _derived(replace(record, cancellation=cancellation, seen=None, ended=None))


def _answered(record: CancellationRecord, outcome: Outcome) -> CancellationRecord:
    known = record.cancellation
    if outcome.kind is OutcomeKind.UNKNOWN and known.outcome is not None:
        return record  # an answer that came late, and was written first, says more
    sent = outcome.kind in (OutcomeKind.ACCEPTED, OutcomeKind.REFUSED, OutcomeKind.UNKNOWN)
    sent = sent or (outcome.kind is OutcomeKind.ALREADY_CANCELLING and outcome.error is not None)
    cancellation = replace(
        known,
        outcome=outcome,
        forward_time=known.forward_time or (outcome.time if sent else None),
        update_time=outcome.time,
    )
    seen = _further(record.seen, outcome.update)
    if seen is None and outcome.kind is OutcomeKind.ALREADY_CANCELLING:
        seen = known.update  # that state is why nothing was sent
    return _derived(replace(record, cancellation=cancellation, seen=seen))


def _further(seen: Update | None, answered: Update | None) -> Update | None:
    """A poll may have seen more than the answer, which is older than its record."""
    if seen is None or answered is None:
        return seen or answered
    return answered if phases.rank(answered) >= phases.rank(seen) else seen


def _observed(record: CancellationRecord, observation: Observation) -> CancellationRecord:
    cancellation = replace(record.cancellation, update_time=observation.time)
    if observation.update is None:
        return _derived(replace(record, cancellation=cancellation, ended=observation.note))
    seen = replace(record, cancellation=cancellation, seen=observation.update)
    return _derived(seen, observation.note)


def _derived(record: CancellationRecord, note: str = "") -> CancellationRecord:
    """With phase, reason and the rest of what follows from what is known. ``note`` is what the latest look
    means for a cancel that was not answered.
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
        return ALREADY if _was_requested(record.cancellation, outcome) else ACCEPTED
    if phase is Phase.CANCELLATION_FAILED and record.seen and record.seen.cancellation:
        return f"EKS says that the cancellation failed: {record.seen.cancellation.reason}"
    return f"EKS says that the update is {(record.seen or record.cancellation.update).status}."


def _was_requested(cancellation: Cancellation, outcome: Outcome) -> bool:
    """Whether EKS was at another cancellation that its status did not show. (Where it showed it, ledgers have
    said ACCEPTED since before there was a word for this, and a record is folded alike for ever.)
    """
    already = outcome.kind is OutcomeKind.ALREADY_CANCELLING
    return already and (outcome.error is not None or cancellation.intent.update.status != "Cancelling")
