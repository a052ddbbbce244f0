"""The ledger's writes, as functions of a unit of work."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from eksgateway import errors
from eksgateway.ledger.hash_chain import Checkpoint, EventKind
from eksgateway.ledger.projection import DenialsLost, summarize
from eksgateway.ledger.protocol import CancellationSummary
from eksgateway.ledger.unit_of_work import UnitOfWork, request_key
from eksgateway.model import Cancellation, Intent, Observation, Outcome, OutcomeKind, Phase, UpdateRef

_DROPPED: Final = 500  # most denials that one operation removes


def add_intent(unit: UnitOfWork, intent: Intent, forward_s: float = 0) -> Cancellation:
    """This replica may forward it for ``forward_s``.

    Raises RequestIdReused, with the other cancellation_id, when the caller has used the request_id before.
    """
    for other in (*unit.find_all(request_key(intent)), unit.find(intent.cancellation_id)):
        if other is not None:
            ids = {"request_id": intent.request_id, "cancellation_id": other.id}
            raise errors.RequestIdReused(metadata=ids)
    unit.set_forward(intent.cancellation_id, forward_s)
    return unit.advance(intent.cancellation_id, EventKind.INTENT, intent)


def renew_intent(unit: UnitOfWork, intent: Intent, forward_s: float = 0) -> Cancellation:
    """As ``add_intent``. Raises DecisionStale unless the cancellation is NOT_FORWARDED."""
    if unit.get(intent.cancellation_id).phase is not Phase.NOT_FORWARDED:
        raise errors.DecisionStale(
            "Another call has taken this cancellation up: nothing was sent. Call again."
        )
    unit.set_forward(intent.cancellation_id, forward_s)
    return unit.advance(intent.cancellation_id, EventKind.INTENT_RENEWED, intent)


def add_outcome(unit: UnitOfWork, cancellation_id: str, outcome: Outcome) -> tuple[Cancellation, Checkpoint]:
    """Also returns the chain's head, for the log."""
    unit.get(cancellation_id)
    return unit.advance(cancellation_id, EventKind.OUTCOME, outcome), unit.head


def add_outcome_once(unit: UnitOfWork, cancellation_id: str, outcome: Outcome) -> Checkpoint | None:
    """``add_outcome``, unless an earlier attempt wrote the outcome and its result was not seen."""
    if unit.is_recorded(cancellation_id, outcome):
        return None
    return add_outcome(unit, cancellation_id, outcome)[1]


def close_intent(unit: UnitOfWork, intent: Intent, time: datetime) -> Checkpoint | None:
    """Close an intent that was recorded after its caller got LedgerUnavailable at ``time``."""
    cancellation = unit.find(intent.cancellation_id)
    if cancellation is None or cancellation.outcome is not None:
        return None
    if cancellation.intent.decision.decision_id != intent.decision.decision_id:
        return None  # another call has renewed it
    error = errors.record(errors.LedgerUnavailable())
    outcome = Outcome(OutcomeKind.NOT_FORWARDED, time, error=error)
    unit.advance(intent.cancellation_id, EventKind.CLOSED, outcome)
    return unit.head


def add_observations(
    unit: UnitOfWork, ref: UpdateRef, earlier: Sequence[Observation], observation: Observation
) -> CancellationSummary:
    """Record an observation, after the ``earlier`` ones that could not be written when they were made.

    Only a cancellation that an observation changes gets an event, and none gets an earlier observation that
    is older than its record: that one is written already, or the cancellation is younger.
    """
    for each in (*earlier, observation):
        for record in unit.find_records(ref):
            late = each is not observation and record.is_newer_than(each)
            if not late and record.is_changed_by(each):
                unit.advance(record.cancellation.id, EventKind.OBSERVATION, each)
    found = unit.find_records(ref)
    return summarize(found, found[-1] if found else None, observation)


def add_denials(unit: UnitOfWork, bodies: Sequence[str], lost: int) -> None:
    """Write a batch of the denial log, and the number of denials that were lost.

    Nothing is written if the first one is there already: an answer to COMMIT was missing.
    """
    if bodies and bodies[0] in unit.rows.denial_bodies:
        return
    time, first = unit.format_now(), unit.denial_ids.stop
    rows = ({"id": number, "time": time, "body": body} for number, body in enumerate(bodies, first))
    unit.change(denials=(*unit.changes.denials, *rows))
    if lost:
        unit.append(EventKind.DENIALS_LOST, "", DenialsLost(lost))


def drop_oldest_denials(unit: UnitOfWork, keep: int, *, begun: bool) -> bool:
    """Remove some of the oldest denials beyond ``keep``, and record their number. True if more must go.

    Removal begins when there are a tenth more, so that a flood of denials is no flood of events. Each call
    removes a bounded number, so that no cancel waits long behind it.
    """
    excess = len(unit.denial_ids) - keep
    if excess <= (0 if begun else keep // 10):
        return False
    dropped = min(excess, _DROPPED)
    unit.change(dropped=unit.changes.dropped + dropped)
    unit.append(EventKind.DENIALS_LOST, "", DenialsLost(dropped, full=True))
    return dropped < excess


def write_probe(unit: UnitOfWork) -> None:
    """Test whether writing works."""
    unit.change(probe_time=unit.format_now())
