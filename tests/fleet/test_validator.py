"""Each point of the validator finds a history that breaks it, and nothing in a sound one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from eksgateway import errors
from eksgateway.ledger.codec import encode, format_time
from eksgateway.ledger.hash_chain import GENESIS, EventKind, link
from eksgateway.model import CancelRequest, Justification, OutcomeKind, Update
from support import records
from support.fleet.history import (
    NO_ANSWER,
    OK,
    Attempt,
    Bounds,
    CommittedEvent,
    EksCall,
    Fault,
    History,
    Line,
    Message,
    Read,
    Stay,
)
from support.fleet.validator import POINTS, find_violations

T0 = records.START.timestamp()
REF, TARGET = records.ref(), records.ref().target
REQUEST = records.intent().request
RUNNING, REQUESTED, CANCELLING, CANCELLED = (
    ("InProgress", ""),
    ("InProgress", "InProgress"),
    ("Cancelling", "InProgress"),
    ("Cancelled", "Successful"),
)

Written = tuple[EventKind, Any, float]  # kind, body, seconds of its COMMIT

INTENT: Written = EventKind.INTENT, records.intent(), 0.1
ANSWER = records.outcome(update=records.update(cancellation="InProgress"))
OUTCOME: Written = EventKind.OUTCOME, ANSWER, 1.1
SEEN: Written = (
    EventKind.OBSERVATION,
    records.observation(records.update("Cancelled", cancellation="Successful")),
    3.1,
)
CHAIN = (INTENT, OUTCOME, SEEN)

CANCEL_CALL = EksCall("CancelUpdate", "a", TARGET, T0 + 0.5, T0 + 0.55, REF, "token-1")


def chain(*written: Written) -> tuple[CommittedEvent, ...]:
    """A sound chain of these events of one cancellation."""
    head, events = GENESIS, []
    for kind, body, seconds in written:
        event = link(head, format_time(records.at(seconds)), kind, "cancellation-1", encode(body))
        events.append(CommittedEvent(event, T0 + seconds))
        head = event.checkpoint
    return tuple(events)


def look(seconds: float, replica: str = "a") -> EksCall:
    return EksCall("DescribeUpdate", replica, TARGET, T0 + seconds, T0 + seconds + 0.05, REF)


def attempt(replica: str = "a", began: float = -0.5, ended: float = 1.2, **changes: Any) -> Attempt:
    fields: dict[str, Any] = {
        "caller": "jwt:corp:ann",
        "request_id": "request-1",
        "request": REQUEST,
        "result": OK,
        "cancellation_id": "cancellation-1",
        "phase": "REQUESTED",
    }
    return Attempt(replica=replica, began=T0 + began, ended=T0 + ended, **fields | changes)


def message(kind: str, state: tuple[str, str], sequence: int, seconds: float, phase: str = "") -> Message:
    return Message("a", T0 + seconds + 0.1, kind, state, phase, sequence, T0 + seconds)


LINE = (
    message("SNAPSHOT", RUNNING, 1, 0.2),
    message("HEARTBEAT", RUNNING, 1, 0.4),
    message("CHANGE", CANCELLING, 2, 1.7, "CANCELLING"),
    message("FINAL", CANCELLED, 3, 3, "CANCELLED"),
)

SOUND = History(
    Bounds(rate=10, size=5, claim=2, look=1, decision_max_age=2),
    events=chain(*CHAIN),
    calls=(look(-0.3), CANCEL_CALL, look(1.7, "b"), look(3)),
    attempts=(attempt(), attempt("b", -0.4, 1.3), attempt("c", 4, 4.1, phase="CANCELLED")),
    reads=(Read("b", REF, T0 + 3.9, T0 + 4),),
    lines=(Line(REF, LINE),),
    stays={
        REF: (
            Stay(RUNNING, T0 - 100, T0 + 0.5),
            Stay(REQUESTED, T0 + 0.5, T0 + 1.5),
            Stay(CANCELLING, T0 + 1.5, T0 + 2.5),
            Stay(CANCELLED, T0 + 2.5),
        )
    },
    ended=T0 + 60,
)

Change = Callable[[History], History]


def events(*written: Written) -> Change:
    return lambda sound: replace(sound, events=chain(*written))


def calls(*more: EksCall) -> Change:
    return lambda sound: replace(sound, calls=(*sound.calls, *more))


def instead(call: EksCall) -> Change:
    return lambda sound: replace(sound, calls=(call,))


def attempts(*given: Attempt) -> Change:
    return lambda sound: replace(sound, attempts=given)


def more_attempts(*given: Attempt) -> Change:
    return lambda sound: replace(sound, attempts=(*sound.attempts, *given))


def line(*messages: Message) -> Change:
    return lambda sound: replace(sound, lines=(Line(REF, messages),))


def without_event(sound: History) -> History:
    return replace(sound, events=(sound.events[0], sound.events[2]))


def forged_event(sound: History) -> History:
    first = sound.events[0]
    return replace(sound, events=(replace(first, event=replace(first.event, time="x")), *sound.events[1:]))


def observation(state: tuple[str, str], seconds: float) -> Written:
    seen = records.update(state[0], cancellation=state[1])
    return EventKind.OBSERVATION, records.observation(seen, seconds=seconds), seconds


def denied() -> Written:
    refused = replace(records.decision(), allowed=False)
    return EventKind.INTENT, records.intent(decision=refused), 0.1


def refused(kind: OutcomeKind, update: Update | None = None) -> Written:
    record = errors.record(errors.LedgerUnavailable())
    return EventKind.OUTCOME, records.outcome(kind, update=update, error=record), 1.1


def unavailable_but_open(sound: History) -> History:
    return replace(sound, events=chain(INTENT), attempts=(UNAVAILABLE,))


OTHER = CancelRequest(REF, Justification("another reason", "INC-1"))
UNAVAILABLE = attempt(result="LEDGER_UNAVAILABLE", cancellation_id="", phase="")
SENT_TWICE = replace(CANCEL_CALL, replica="b", began=T0 + 0.6)

REFUSED = attempt("b", result="EKS_INVALID_STATE", phase="REJECTED")
UNKNOWN_LATER = attempt("b", 5, 6, result="OUTCOME_UNKNOWN")
FINISHED_LATER = attempt("b", 5, 6, result="UPDATE_FINISHED")

BROKEN: tuple[tuple[int, str, Change], ...] = (
    (1, "event 2 is missing", without_event),
    (1, "its hash does not match", forged_event),
    (1, "cannot come where they are", events(INTENT, INTENT, OUTCOME, SEEN)),
    (2, "no intent has its token", instead(replace(CANCEL_CALL, token="other"))),
    (2, "before its intent was committed", events((*INTENT[:2], 0.7), OUTCOME, SEEN)),
    (2, "was not allowed", events(denied(), OUTCOME, SEEN)),
    (2, "is about", instead(replace(CANCEL_CALL, ref=records.ref("u-2")))),
    (2, "after the decision", instead(replace(CANCEL_CALL, began=T0 + 2.4))),
    (2, "was sent 2 times, by a, b", calls(SENT_TWICE)),
    (3, "it has the cancellations", more_attempts(attempt("b", cancellation_id="cancellation-2"))),
    (3, "2 different requests", more_attempts(attempt("b", request=OTHER))),
    (3, "refused the recorded request", more_attempts(attempt("b", result="REQUEST_ID_REUSED"))),
    (
        3,
        "EKS_INVALID_STATE and OK",
        more_attempts(attempt("b", result="EKS_INVALID_STATE", phase="REJECTED")),
    ),
    (
        3,
        "b answered OUTCOME_UNKNOWN after an OK",
        more_attempts(attempt("b", 5, 6, result="OUTCOME_UNKNOWN")),
    ),
    (
        3,
        "b answered UPDATE_FINISHED after an OK",
        more_attempts(attempt("b", 5, 6, result="UPDATE_FINISHED")),
    ),
    (4, "the ledger has no cancellation-1", events()),
    (4, "is of request-1", attempts(attempt(request_id="request-9"))),
    (4, "before its intent was committed", events((*INTENT[:2], 9), (*OUTCOME[:2], 9), (*SEEN[:2], 9))),
    (4, "no success", events(INTENT, (*OUTCOME[:2], 5), (*SEEN[:2], 6))),
    (4, "no success", events(INTENT, refused(OutcomeKind.UNKNOWN))),
    (5, "that no call of its client asked for", attempts(UNAVAILABLE)),
    (5, "that no call of its client asked for", attempts(attempt("b"))),
    (
        5,
        "is OUTCOME_UNKNOWN after a LEDGER_UNAVAILABLE",
        lambda sound: attempts(UNAVAILABLE)(events(INTENT)(sound)),
    ),
    (6, "CHANGE 3", line(LINE[0], replace(LINE[2], sequence=3))),
    (6, "begins with HEARTBEAT", line(*LINE[1:])),
    (6, "SNAPSHOT 2", line(LINE[0], replace(LINE[2], kind="SNAPSHOT"))),
    (6, "was over", line(LINE[0], LINE[2], message("CHANGE", REQUESTED, 3, 1.8))),
    (6, "EKS never showed", line(message("SNAPSHOT", ("Failed", ""), 1, 0.2))),
    (6, "before EKS showed it", line(message("SNAPSHOT", CANCELLED, 1, 1))),
    (6, "is not final", line(LINE[0], replace(LINE[2], kind="FINAL"))),
    (6, "comes after FINAL", line(*LINE, message("FINAL", CANCELLED, 4, 3.5))),
    (6, "has the phase CANCELLED", line(replace(LINE[0], phase="CANCELLED"))),
    (6, "differs from", line(LINE[0], replace(LINE[1], phase="REQUESTED"))),
    (7, "goes back", events(INTENT, OUTCOME, observation(CANCELLING, 1.7), observation(REQUESTED, 1.8))),
    (7, "goes back", events(INTENT, OUTCOME, observation(RUNNING, 1.2), SEEN)),
    (7, "EKS never showed", events(INTENT, OUTCOME, observation(("Successful", ""), 3))),
    (8, "6 calls in 0.00 s", calls(*[look(7) for _ in range(6)])),
    (8, "calls in 0.87 s, where", calls(*[look(7 + number / 15) for number in range(16)])),
    (9, "a and b looked at once", calls(look(7), look(7.01, "b"))),
    (10, "never", events(INTENT, OUTCOME)),
    (10, "10.5 s late", events(INTENT, OUTCOME, (*SEEN[:2], 14))),
)


def test_sound_history_has_no_violation() -> None:
    assert find_violations(SOUND) == []


@pytest.mark.parametrize(("point", "what", "change"), BROKEN, ids=[f"{p}-{w}" for p, w, _ in BROKEN])
def test_broken_history_is_found(point: int, what: str, change: Change) -> None:
    """The point itself finds it, whatever others find too."""
    found = list(POINTS[point](change(SOUND)))
    assert any(what in text for text in found), found


def test_every_point_has_a_broken_history() -> None:
    assert {point for point, _, _ in BROKEN} == set(POINTS)


@pytest.mark.parametrize(
    "change",
    [
        calls(replace(CANCEL_CALL, began=T0 + 0.4, acted=False)),
        calls(look(7), look(9.5, "b")),
        calls(replace(look(7), ended=T0 + 10), look(9.5, "b")),
        more_attempts(attempt("b", result="LEDGER_UNAVAILABLE", cancellation_id="", phase="")),
        more_attempts(attempt("b", 5, 6, result="LEDGER_UNAVAILABLE", cancellation_id="", phase="")),
        more_attempts(attempt("b", request=OTHER, result="REQUEST_ID_REUSED", cancellation_id="")),
        more_attempts(
            attempt("b", result="REQUEST_ID_REUSED", cancellation_id=""),
            attempt("b", request=OTHER, result="REQUEST_ID_REUSED", cancellation_id=""),
        ),
        attempts(attempt(ended=0.2, result=NO_ANSWER, cancellation_id="", phase="")),
    ],
    ids=[
        "sent again after a throttle",
        "looks one after the other",
        "a look after the claim ran out",
        "unavailable elsewhere",
        "unavailable later",
        "another request refused",
        "refused beside another request",
        "client gone before the send",
    ],
)
def test_lawful_history_has_no_violation(change: Change) -> None:
    assert find_violations(change(SOUND)) == []


@pytest.mark.parametrize(
    ("fault", "change"),
    [
        (Fault("frozen", T0 + 6.5, T0 + 6.9, frozenset({"b"})), calls(look(7), look(7.01, "b"))),
        (Fault("stopped", T0 + 2.4, T0 + 20, database=True), events(INTENT, OUTCOME, (*SEEN[:2], 20.9))),
        (
            Fault("killed", T0 + 0.2, T0 + 1, frozenset({"a"}), ends=True),
            lambda sound: attempts(UNAVAILABLE)(replace(events(INTENT)(sound), calls=(), stays={})),
        ),
    ],
    ids=["looks while frozen", "settled after PostgreSQL was back", "a killed replica closes nothing"],
)
def test_faults_excuse_what_they_cause(fault: Fault, change: Change) -> None:
    broken = change(SOUND)
    assert find_violations(replace(broken, lines=()))
    assert find_violations(replace(broken, lines=(), faults=(fault,))) == []
