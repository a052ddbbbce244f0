"""Cancellations after their events: a table, without storage."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from eksgateway.errors import EksInvalidState, LedgerUnavailable, record
from eksgateway.ledger.codec import CodecError, encode
from eksgateway.ledger.hash_chain import GENESIS, EventKind, link
from eksgateway.ledger.projection import ACCEPTED as ACCEPTANCE
from eksgateway.ledger.projection import OBSERVED, UNANSWERED, CancellationRecord, fold
from eksgateway.model import Cancellation, Observation, OutcomeKind, Phase
from support.records import at, decision, intent, observation, outcome, update

INTENT = (EventKind.INTENT, intent())
ACCEPTED = (EventKind.OUTCOME, outcome(update=update(cancellation="InProgress")))
UNKNOWN = (EventKind.OUTCOME, outcome(OutcomeKind.UNKNOWN))
REFUSAL = record(EksInvalidState("The nodes are done."))
REFUSED = (EventKind.OUTCOME, outcome(OutcomeKind.REFUSED, error=REFUSAL, cluster_status="ACTIVE"))
TOO_LATE = (EventKind.OUTCOME, outcome(OutcomeKind.REFUSED, error=REFUSAL, cluster_status="UPDATING"))
NOT_FORWARDED = (
    EventKind.OUTCOME,
    outcome(OutcomeKind.NOT_FORWARDED, error=record(LedgerUnavailable("No."))),
)
CLOSED = (EventKind.CLOSED, NOT_FORWARDED[1])
RENEWED = (EventKind.INTENT_RENEWED, intent(decision=decision("2"), time=at(5)))
ENDED = (EventKind.OBSERVATION, observation(None, note="EKS no longer knows it."))
FAILED_BEFORE = (EventKind.INTENT, intent(update=update(cancellation="Failed")))
CANCELLING_BEFORE = (EventKind.INTENT, intent(update=update("Cancelling")))
ALREADY = (EventKind.OUTCOME, outcome(OutcomeKind.ALREADY_CANCELLING))


def observe(status: str, cancellation: str = "") -> tuple[EventKind, Any]:
    return EventKind.OBSERVATION, observation(update(status, cancellation=cancellation))


def fold_all(*steps: tuple[EventKind, Any]) -> Cancellation:
    head, state = GENESIS, None
    for kind, body in steps:
        event = link(head, "2026-01-01T00:00:00.000000Z", kind, "cancellation-1", encode(body))
        before, state = state, fold(state, event)
        assert fold(before, event, body) == state
        head = event.checkpoint
    assert isinstance(state, CancellationRecord)
    return state.cancellation


@pytest.mark.parametrize(
    ("steps", "phase", "settled", "reason"),
    [
        pytest.param([], Phase.OUTCOME_UNKNOWN, False, UNANSWERED, id="intent"),
        pytest.param([ACCEPTED], Phase.REQUESTED, False, ACCEPTANCE, id="accepted"),
        pytest.param([UNKNOWN], Phase.OUTCOME_UNKNOWN, False, "", id="no answer"),
        pytest.param([UNKNOWN, ACCEPTED], Phase.REQUESTED, False, ACCEPTANCE, id="a late answer"),
        pytest.param([ACCEPTED, UNKNOWN], Phase.REQUESTED, False, ACCEPTANCE, id="an answer, written first"),
        pytest.param([REFUSED], Phase.REJECTED, True, "The nodes are done.", id="refused"),
        pytest.param([TOO_LATE], Phase.TOO_LATE, True, "The nodes are done.", id="too late"),
        pytest.param([NOT_FORWARDED], Phase.NOT_FORWARDED, True, "No.", id="not forwarded"),
        pytest.param([CLOSED], Phase.NOT_FORWARDED, True, "No.", id="closed"),
        pytest.param([NOT_FORWARDED, RENEWED], Phase.OUTCOME_UNKNOWN, False, UNANSWERED, id="renewed"),
        pytest.param(
            [CLOSED, RENEWED, ACCEPTED], Phase.REQUESTED, False, ACCEPTANCE, id="renewed and accepted"
        ),
        pytest.param(
            [ACCEPTED, observe("Cancelling")],
            Phase.CANCELLING,
            False,
            "EKS says that the update is Cancelling.",
            id="cancelling",
        ),
        pytest.param(
            [ACCEPTED, observe("Cancelled")],
            Phase.CANCELLED,
            True,
            "EKS says that the update is Cancelled.",
            id="cancelled",
        ),
        pytest.param(
            [ACCEPTED, observe("Successful")],
            Phase.COMPLETED_ANYWAY,
            True,
            "EKS says that the update is Successful.",
            id="completed",
        ),
        pytest.param(
            [ACCEPTED, observe("Failed")],
            Phase.UPDATE_FAILED,
            True,
            "EKS says that the update is Failed.",
            id="failed",
        ),
        pytest.param(
            [ACCEPTED, observe("InProgress", "Failed")],
            Phase.CANCELLATION_FAILED,
            False,
            "EKS says that the cancellation failed: because",
            id="cancellation failed",
        ),
        pytest.param([observe("Cancelled")], Phase.CANCELLED, True, OBSERVED, id="crash, then cancelled"),
        pytest.param(
            [UNKNOWN, observe("Cancelling")], Phase.CANCELLING, False, OBSERVED, id="seen, no answer"
        ),
        pytest.param(
            [observe("Cancelling"), ACCEPTED],
            Phase.CANCELLING,
            False,
            "EKS says that the update is Cancelling.",
            id="seen before the answer",
        ),
        pytest.param(
            [observe("Cancelled"), ACCEPTED],
            Phase.CANCELLED,
            True,
            "EKS says that the update is Cancelled.",
            id="ended before the answer",
        ),
        pytest.param([ACCEPTED, ENDED], Phase.REQUESTED, True, "EKS no longer knows it.", id="update lost"),
        pytest.param(
            [ENDED], Phase.OUTCOME_UNKNOWN, True, "EKS no longer knows it.", id="crash, update lost"
        ),
        pytest.param([ENDED, REFUSED], Phase.REJECTED, True, "The nodes are done.", id="lost, then refused"),
    ],
)
def test_fold_gives_phase_and_reason(
    steps: list[tuple[EventKind, Any]], phase: Phase, settled: bool, reason: str
) -> None:
    found = fold_all(INTENT, *steps)
    assert (found.phase, found.settled, found.phase_reason) == (phase, settled, reason)


def test_a_state_before_the_intent_does_not_change_the_phase() -> None:
    """An earlier cancellation that failed is not this one's failure."""
    assert fold_all(FAILED_BEFORE).phase is Phase.OUTCOME_UNKNOWN
    assert fold_all(FAILED_BEFORE, UNKNOWN).phase is Phase.OUTCOME_UNKNOWN


def test_already_cancelling_is_cancelling() -> None:
    """Nothing was sent, because EKS was cancelling the update already."""
    found = fold_all(CANCELLING_BEFORE, ALREADY)
    assert (found.phase, found.forward_time) == (Phase.CANCELLING, None)


@pytest.mark.parametrize(
    ("steps", "sent"),
    [
        pytest.param([], False, id="intent"),
        pytest.param([ACCEPTED], True, id="accepted"),
        pytest.param([REFUSED], True, id="refused"),
        pytest.param([UNKNOWN], True, id="unknown"),
        pytest.param([NOT_FORWARDED], False, id="not forwarded"),
        pytest.param([observe("Cancelled")], False, id="only observed"),
    ],
)
def test_forward_time_is_set_only_when_the_cancel_was_sent(
    steps: list[tuple[EventKind, Any]], sent: bool
) -> None:
    assert fold_all(INTENT, *steps).forward_time == (at(1) if sent else None)


def test_renewal_keeps_the_token_and_takes_the_decision() -> None:
    found = fold_all(INTENT, NOT_FORWARDED, RENEWED)
    assert (found.intent.token, found.intent.decision) == ("token-1", decision("2"))
    assert (found.outcome, found.update_time) == (None, at(5))


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param([ACCEPTED], id="no intent"),
        pytest.param([INTENT, INTENT], id="two intents"),
        pytest.param([INTENT, (EventKind.OUTCOME, intent())], id="another body"),
    ],
)
def test_fold_refuses_events_that_cannot_follow(steps: list[tuple[EventKind, Any]]) -> None:
    with pytest.raises(CodecError):
        fold_all(*steps)


def test_renewal_takes_the_new_facts_and_keeps_the_first_time() -> None:
    facts = update(cancellation="Failed")
    renewed = intent(decision=decision("2"), update=facts, time=at(5))
    found = fold_all(INTENT, NOT_FORWARDED, (EventKind.INTENT_RENEWED, renewed))
    assert (found.intent.decision, found.intent.update, found.update) == (decision("2"), facts, facts)
    assert (found.intent.time, found.update_time) == (INTENT[1].time, at(5))


def test_stored_texts_are_those_of_earlier_versions() -> None:
    """A changed event breaks the chain of every existing ledger, a changed record its projection."""
    head, record = GENESIS, None
    for kind, body in (INTENT, ACCEPTED, (EventKind.OBSERVATION, Observation(at(2), update("Cancelled")))):
        event = link(head, "2026-01-01T00:00:00.000000Z", kind, "cancellation-1", encode(body))
        head, record = event.checkpoint, fold(record, event)
    assert str(head) == "3:fc315f03209b38f0cb540e002adde86bd5a2a1b819611bf56aa2998c6a16a782"
    document = json.loads(encode(record))
    assert document.pop("known_at") == "2026-01-01T12:00:02.123456Z"  # earlier versions lack it
    digest = hashlib.sha256(encode(document).encode()).hexdigest()
    assert digest == "98ed9630c6304b1a2d4aecc4ed5a9901cdfdaac1d6bc33937f9b84f2513e4dbb"
