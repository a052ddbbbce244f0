"""The one function from what is known of a cancellation to its phase; a pure table.

                intent committed
                       │
    ┌──────────────────┼─────────────────────┬──────────────────┐
    ▼                  ▼                     ▼                  ▼
NOT_FORWARDED   TOO_LATE, REJECTED     REQUESTED ──────► OUTCOME_UNKNOWN
(EKS did not    (EKS refused)              │             (settled by polling)
 judge it)                        CANCELLING ⇄ CANCELLATION_FAILED
                                           │
                       CANCELLED, COMPLETED_ANYWAY, UPDATE_FAILED
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from eksgateway.model import Cancellation, Outcome, OutcomeKind, Phase, Update

NO_TRACE_AFTER: Final = timedelta(seconds=10)
NO_TRACE: Final = (
    "EKS shows the update InProgress without any cancellation, some time after the attempt: it seems that EKS"
    " never got it. A new request_id sends again."
)

_BY_STATUS: Final = {
    "Cancelled": Phase.CANCELLED,
    "Successful": Phase.COMPLETED_ANYWAY,
    "Failed": Phase.UPDATE_FAILED,
    "Cancelling": Phase.CANCELLING,
}

SETTLED: Final = frozenset(
    {
        Phase.NOT_FORWARDED,
        Phase.TOO_LATE,
        Phase.REJECTED,
        Phase.CANCELLED,
        Phase.COMPLETED_ANYWAY,
        Phase.UPDATE_FAILED,
    }
)


def phase_of(outcome: Outcome | None, update: Update | None) -> Phase:
    """Return the first row that applies of the table in ``CancellationPhase``'s comment."""
    kind = outcome.kind if outcome else None
    if kind is OutcomeKind.NOT_FORWARDED:
        return Phase.NOT_FORWARDED
    if outcome and kind is OutcomeKind.REFUSED:
        return Phase.TOO_LATE if outcome.cluster_status == "UPDATING" else Phase.REJECTED
    seen = _phase_at_eks(update) if update else None
    if seen is not None:
        return seen
    if kind in (OutcomeKind.ACCEPTED, OutcomeKind.ALREADY_CANCELLING):
        return Phase.REQUESTED
    return Phase.OUTCOME_UNKNOWN


def is_cancelling(update: Update) -> bool:
    """Whether EKS is cancelling this update, by any caller's request: another cancel has no effect.

    After a cancellation that Failed the update goes on, and may be cancelled again. An unknown cancellation
    status counts as under way; an empty one shows nothing, and another cancel is sent.
    """
    if update.final:
        return False
    if update.status == "Cancelling":
        return True
    return update.cancellation is not None and update.cancellation.status not in ("", "Failed")


def has_no_trace(cancellation: Cancellation, update: Update, now: datetime) -> bool:
    has_trace = _phase_at_eks(update) is not None or update.status != "InProgress"
    if cancellation.phase is not Phase.OUTCOME_UNKNOWN or has_trace:
        return False
    return now >= no_trace_from(cancellation)


def no_trace_from(cancellation: Cancellation) -> datetime:
    return (cancellation.forward_time or cancellation.intent.time) + NO_TRACE_AFTER


def phase_of_update(update: Update) -> Phase | None:
    """Return the phase without a cancellation in the ledger.

    None where EKS shows none: an update that was never cancelled was not "completed anyway".
    """
    cancelled = update.cancellation is not None or update.status in ("Cancelling", "Cancelled")
    return _phase_at_eks(update) if cancelled else None


def _phase_at_eks(update: Update) -> Phase | None:
    if update.status in _BY_STATUS:
        return _BY_STATUS[update.status]
    if update.cancellation is not None:
        failed = update.cancellation.status == "Failed"
        return Phase.CANCELLATION_FAILED if failed else Phase.REQUESTED
    return None


def rank(update: Update) -> int:
    """0 running, 1 cancellation shown or failed, 2 cancelling, 3 ended."""
    if update.final:
        return 3
    if update.status == "Cancelling":
        return 2
    return 1 if update.cancellation is not None else 0
