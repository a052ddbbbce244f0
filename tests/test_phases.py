"""The phase table, row by row. The first row that applies counts."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eksgateway.model import Cancellation, Outcome, OutcomeKind, Phase, Update, UpdateCancellation
from eksgateway.phases import has_no_trace, is_cancelling, phase_of, phase_of_update
from support import records

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def outcome(kind: OutcomeKind, cluster_status: str = "") -> Outcome:
    return Outcome(kind, NOW, cluster_status=cluster_status)


def update(status: str, cancellation: str = "") -> Update:
    block = UpdateCancellation(cancellation, "") if cancellation else None
    return Update("u", status, "VersionRollback", cancellation=block)


ACCEPTED = outcome(OutcomeKind.ACCEPTED)
UNKNOWN = outcome(OutcomeKind.UNKNOWN)
REFUSED = OutcomeKind.REFUSED

ROWS: dict[str, tuple[Outcome | None, Update | None, Phase]] = {
    "not forwarded": (outcome(OutcomeKind.NOT_FORWARDED), update("Cancelled"), Phase.NOT_FORWARDED),
    "refused, cluster updating": (outcome(REFUSED, "UPDATING"), update("Cancelled"), Phase.TOO_LATE),
    "refused otherwise": (outcome(REFUSED, "ACTIVE"), update("Cancelled"), Phase.REJECTED),
    "refused, cluster status unknown": (outcome(REFUSED), update("InProgress"), Phase.REJECTED),
    "cancelled": (ACCEPTED, update("Cancelled", "Successful"), Phase.CANCELLED),
    "successful": (ACCEPTED, update("Successful", "Failed"), Phase.COMPLETED_ANYWAY),
    "failed": (ACCEPTED, update("Failed", "InProgress"), Phase.UPDATE_FAILED),
    "cancelling": (ACCEPTED, update("Cancelling", "Failed"), Phase.CANCELLING),
    "cancellation failed": (ACCEPTED, update("InProgress", "Failed"), Phase.CANCELLATION_FAILED),
    "accepted": (ACCEPTED, update("InProgress"), Phase.REQUESTED),
    "cancelling before": (outcome(OutcomeKind.ALREADY_CANCELLING), update("InProgress"), Phase.REQUESTED),
    "a cancellation is seen": (UNKNOWN, update("InProgress", "InProgress"), Phase.REQUESTED),
    "unknown cancellation status": (UNKNOWN, update("InProgress", "Pausing"), Phase.REQUESTED),
    "no answer": (UNKNOWN, update("InProgress"), Phase.OUTCOME_UNKNOWN),
    "crash": (None, None, Phase.OUTCOME_UNKNOWN),
    "crash, settled by polling": (None, update("Cancelled"), Phase.CANCELLED),
    "unknown status": (UNKNOWN, update("Paused"), Phase.OUTCOME_UNKNOWN),
}


@pytest.mark.parametrize(("known", "seen", "phase"), ROWS.values(), ids=ROWS)
def test_phase_of_each_row(known: Outcome | None, seen: Update | None, phase: Phase) -> None:
    assert phase_of(known, seen) is phase


@given(
    st.sampled_from(OutcomeKind),
    st.text(),
    st.none() | st.builds(update, st.text(), st.text()),
)
def test_cancelled_requires_that_eks_reported_cancelled(
    kind: OutcomeKind, cluster_status: str, seen: Update | None
) -> None:
    """For every outcome and every text of EKS."""
    if phase_of(outcome(kind, cluster_status), seen) is Phase.CANCELLED:
        assert seen is not None
        assert seen.status == "Cancelled"


@pytest.mark.parametrize(
    ("status", "cancellation", "expected"),
    [
        ("InProgress", "", False),
        ("InProgress", "InProgress", True),
        ("InProgress", "Successful", True),
        ("InProgress", "StatusOfTomorrow", True),
        ("InProgress", "Failed", False),
        ("Cancelling", "", True),
        ("Cancelling", "Failed", True),
        ("Paused", "InProgress", True),
        ("Cancelled", "Successful", False),
        ("Successful", "InProgress", False),
    ],
)
def test_is_cancelling_when_another_cancel_would_have_no_effect(
    status: str, cancellation: str, expected: bool
) -> None:
    """An unknown cancellation status counts as a cancellation under way."""
    assert is_cancelling(update(status, cancellation)) == expected


def test_empty_cancellation_is_not_cancelling() -> None:
    """An OK without a cancel at EKS would be wrong."""
    assert not is_cancelling(replace(update("InProgress"), cancellation=UpdateCancellation("", "")))


@pytest.mark.parametrize(
    ("status", "cancellation", "seconds", "expected"),
    [
        ("InProgress", "", 11, True),
        ("InProgress", "", 9, False),
        ("InProgress", "InProgress", 11, False),
        ("InProgress", "Failed", 11, False),
        ("Cancelling", "", 11, False),
        ("Failed", "", 11, False),
        ("Paused", "", 11, False),
    ],
)
def test_no_trace_is_reported_for_unanswered_cancels_only(
    status: str, cancellation: str, seconds: float, expected: bool
) -> None:
    """Some seconds after the attempt."""
    asked = records.intent(time=NOW - timedelta(seconds=100))
    for outcome, forwarded in ((UNKNOWN, NOW), (None, None)):
        unknown = Cancellation(
            asked,
            Phase.OUTCOME_UNKNOWN,
            "",
            asked.update,
            outcome,
            settled=False,
            forward_time=forwarded,
            update_time=NOW,
        )
        since = forwarded or asked.time
        now = since + timedelta(seconds=seconds)
        assert has_no_trace(unknown, update(status, cancellation), now) == expected
        assert not has_no_trace(replace(unknown, phase=Phase.REQUESTED), update(status, cancellation), now)


@pytest.mark.parametrize("status", ["InProgress", "Successful", "Failed", "Paused"])
def test_update_that_was_never_cancelled_has_no_phase(status: str) -> None:
    """It was not "completed anyway"."""
    assert phase_of_update(update(status)) is None
