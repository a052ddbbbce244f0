"""Histories of cancellations, with every kind of event and of text, as a ledger has them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from eksgateway.ledger.codec import encode
from eksgateway.ledger.hash_chain import GENESIS, Event, EventKind, link
from eksgateway.ledger.projection import DenialsLost
from eksgateway.model import (
    CancelRequest,
    ClusterFacts,
    ErrorRecord,
    Justification,
    OutcomeKind,
    Update,
    UpdateError,
    UpdateParam,
)
from support.records import at, caller_with_claims, intent, observation, outcome, ref, update

INTENT, OUTCOME, OBSERVATION = EventKind.INTENT, EventKind.OUTCOME, EventKind.OBSERVATION
_ERROR: Final = ErrorRecord(
    "EKS_INVALID_STATE", 'It "cannot" be\ncancelled: \u00fc\U0001f600', {"a": "1", "b": "2"}
)
_RICH: Final = intent(
    "accepted",
    caller=caller_with_claims(),
    request=CancelRequest(ref(), Justification('a "reason" \\ with\tescapes', "INC-1")),
    cluster=ClusterFacts("arn", "payments", "ACTIVE", "1.33", {"env": "prod", "team": "x"}),
    method="/CancelUpdate",
    decision_time=at(0),
)
_BEFORE: Final = -1e10  # seconds


def rich_update(status: str, cancellation: str = "") -> Update:
    errors = (UpdateError("Code", "text", ("i-1", "i-2")),)
    found = update(status, cancellation=cancellation)
    return replace(found, params=(UpdateParam("Version", "1.34"),), errors=errors)


HISTORIES: Final[dict[str, list[tuple[EventKind, Any]]]] = {
    "accepted": [
        (INTENT, _RICH),
        (OUTCOME, outcome(update=rich_update("InProgress", "InProgress"))),
        (OBSERVATION, observation(rich_update("Cancelling"), seconds=3)),
        (OBSERVATION, observation(rich_update("Cancelled"), seconds=4)),
    ],
    "refused": [
        (INTENT, intent("refused")),
        (OUTCOME, outcome(OutcomeKind.REFUSED, error=_ERROR, cluster_status="UPDATING")),
    ],
    "already": [
        (INTENT, intent("already", update=update("Cancelling"))),
        (OUTCOME, outcome(OutcomeKind.ALREADY_CANCELLING)),
    ],
    "already-refused": [
        (INTENT, intent("already-refused")),
        (OUTCOME, outcome(OutcomeKind.ALREADY_CANCELLING, error=_ERROR)),
    ],
    "unknown": [
        (INTENT, intent("unknown")),
        (OUTCOME, outcome(OutcomeKind.UNKNOWN, error=_ERROR)),
        (OBSERVATION, observation(update(), note="no trace")),
        (OBSERVATION, observation(update(cancellation="Failed"), seconds=_BEFORE)),
    ],
    "answered-late": [
        (INTENT, intent("answered-late")),
        (OUTCOME, outcome(OutcomeKind.UNKNOWN)),
        (OBSERVATION, observation(update("Cancelling"))),
        (OUTCOME, outcome(update=update(cancellation="Failed"))),
        (OUTCOME, outcome(OutcomeKind.UNKNOWN)),
    ],
    "closed": [
        (INTENT, intent("closed")),
        (EventKind.CLOSED, outcome(OutcomeKind.NOT_FORWARDED, error=_ERROR)),
    ],
    "renewed": [
        (INTENT, intent("renewed")),
        (OUTCOME, outcome(OutcomeKind.NOT_FORWARDED, error=_ERROR)),
        (EventKind.INTENT_RENEWED, intent("renewed", time=at(5))),
        (OUTCOME, outcome()),
    ],
    "lost": [
        (INTENT, intent("lost")),
        (OUTCOME, outcome()),
        (OBSERVATION, observation(None, note="EKS has lost the update")),
    ],
    "pending": [(INTENT, intent("pending"))],
}


def chain(histories: dict[str, list[tuple[EventKind, Any]]]) -> list[Event]:
    """Their events in turns, after lost denials. The ids are as in ``cancellation-accepted``."""
    head, events = GENESIS, list[Event]()
    steps = [("", EventKind.DENIALS_LOST, DenialsLost(3))]
    for number in range(max(map(len, histories.values()))):
        steps += [
            (f"cancellation-{name}", *each[number]) for name, each in histories.items() if number < len(each)
        ]
    for key, kind, body in steps:
        event = link(head, f"2026-01-01T12:00:{len(events):02}.000000Z", kind, key, encode(body))
        events.append(event)
        head = event.checkpoint
    return events
