"""The rules of a client's calls with one request_id: points 3 and 5."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from eksgateway.model import OutcomeKind, Phase
from support.fleet.history import NO_ANSWER, OK, Attempt, EksCall, History
from support.fleet.ledger_rules import Step, fold_cancellations, list_intents

# Errors before an intent, or instead of one: the call that got one has sent nothing.
NOTHING_SENT = frozenset(
    {
        *(
            "LEDGER_UNAVAILABLE",
            "REQUEST_ID_REUSED",
            "UPDATE_FINISHED",
            "POLICY_DENIED",
            "POLICY_UNAVAILABLE",
        ),
        *("DECISION_STALE", "OVERLOADED", "DRAINING", "IDENTITY_UNAVAILABLE"),
    }
)
_REFUSALS = frozenset(
    {"EKS_INVALID_STATE", "EKS_INVALID_REQUEST", "EKS_INVALID_PARAMETER", "EKS_CLIENT_ERROR"}
)
_FINAL_PHASES = frozenset({Phase.TOO_LATE.value, Phase.REJECTED.value})


def one_answer_each(history: History) -> Iterator[str]:
    """Point 3: a caller's request_id has one cancellation_id, one request and one final answer, whichever
    replica answered.
    """
    groups: dict[tuple[str, str], list[Attempt]] = defaultdict(list)
    for attempt in history.attempts:
        groups[attempt.key].append(attempt)
    for (_, request_id), attempts in groups.items():
        known = [attempt for attempt in attempts if attempt.cancellation_id]
        if len({attempt.cancellation_id for attempt in known}) > 1:
            ids = sorted({f"{each.cancellation_id} at {each.replica}" for each in known})
            yield f"{request_id}: it has the cancellations {', '.join(ids)}"
        requests = {attempt.request for attempt in known}
        if len(requests) > 1:
            yield f"{request_id}: {len(requests)} different requests were carried out"
        for attempt in attempts:
            reused = attempt.result == "REQUEST_ID_REUSED" and attempt.request in requests
            if reused and not _met_another_request(attempt, attempts):
                yield f"{request_id}: {attempt.replica} refused the recorded request as another one"
        answers = {_final_answer(attempt) for attempt in attempts} - {""}
        if len(answers) > 1:
            yield f"{request_id}: it was answered {' and '.join(sorted(answers))}"
        yield from _check_repeats(request_id, attempts)


def _met_another_request(attempt: Attempt, attempts: Sequence[Attempt]) -> bool:
    """Whether another request with its id was under way at the same replica, which may win or lose later."""
    return any(
        other.request != attempt.request
        and other.replica == attempt.replica
        and other.began <= attempt.ended
        and attempt.began <= other.ended
        for other in attempts
    )


def _final_answer(attempt: Attempt) -> str:
    """An answer that every repeat must get too; empty if a later one may differ."""
    if attempt.result == OK:
        return OK
    return attempt.result if attempt.result in _REFUSALS and attempt.phase in _FINAL_PHASES else ""


def _check_repeats(request_id: str, attempts: Sequence[Attempt]) -> Iterator[str]:
    """A repeat that began after an OK gets one, or an error that does not judge the request."""
    first = min((each.ended for each in attempts if each.result == OK), default=None)
    if first is None:
        return
    done = {attempt.request for attempt in attempts if attempt.result == OK}
    for attempt in attempts:
        judged = attempt.result in {"UPDATE_FINISHED", "DECISION_STALE", "OUTCOME_UNKNOWN"} | _REFUSALS
        if attempt.began > first and attempt.request in done and judged:
            yield f"{request_id}: {attempt.replica} answered {attempt.result} after an OK"


def unavailable_means_nothing_sent(history: History) -> Iterator[str]:
    """Point 5: after LEDGER_UNAVAILABLE nothing was sent, and the intent is absent or closed."""
    attempts: dict[tuple[str, str], list[Attempt]] = defaultdict(list)
    for attempt in history.attempts:
        attempts[attempt.key].append(attempt)
    keys = {intent.token: (intent.caller.id, intent.request_id) for _, intent in list_intents(history)}
    for call in history.calls:
        key = keys.get(call.token) if call.operation == "CancelUpdate" else None
        if key is not None and not any(_may_have_sent(each, call) for each in attempts[key]):
            results = ", ".join(f"{each.replica} {each.result}" for each in attempts[key])
            yield f"{key[1]}: {call.replica} sent a cancel that no call of its client asked for: {results}"
    for cancellation_id, steps in fold_cancellations(history).items():
        intent = steps[-1].after.cancellation.intent
        group = attempts[intent.caller.id, intent.request_id]
        if all(each.result in NOTHING_SENT for each in group) and not _is_closed(steps, group, history):
            results = ", ".join(f"{each.replica} {each.result}" for each in group) or "no call"
            phase = steps[-1].after.cancellation.phase
            yield f"{intent.request_id}: {cancellation_id} is {phase} after {results}"


def _may_have_sent(attempt: Attempt, call: EksCall) -> bool:
    if attempt.replica != call.replica or attempt.began > call.began or attempt.result in NOTHING_SENT:
        return False
    return attempt.result == NO_ANSWER or call.began <= attempt.ended


def _is_closed(steps: Sequence[Step], group: Sequence[Attempt], history: History) -> bool:
    """A replica that ends forgets which intents it owed a closing."""
    outcome = steps[-1].after.cancellation.outcome
    if outcome is not None and outcome.kind is OutcomeKind.NOT_FORWARDED:
        return True
    replicas = {attempt.replica for attempt in group}
    since = min((attempt.began for attempt in group), default=0.0)
    return any(fault.ends and fault.replicas & replicas and fault.ended >= since for fault in history.faults)
