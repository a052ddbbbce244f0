"""The rules of the calls that EKS got: points 2, 8 and 9."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise

from eksgateway.model import Intent
from support.fleet.history import FOREVER, CommittedEvent, EksCall, History
from support.fleet.ledger_rules import list_intents

CANCEL, LOOK = "CancelUpdate", "DescribeUpdate"


def sends_have_intents(history: History) -> Iterator[str]:
    """Point 2: each CancelUpdate has an intent with its token that was allowed, committed before, and young;
    a token is sent again only where EKS certainly did not act.
    """
    intents: dict[str, list[tuple[CommittedEvent, Intent]]] = defaultdict(list)
    for written, intent in list_intents(history):
        intents[intent.token].append((written, intent))
    for ids in ({intent.cancellation_id for _, intent in group} for group in intents.values()):
        if len(ids) > 1:
            yield f"one token has the intents {', '.join(sorted(ids))}"
    sends: dict[str, list[EksCall]] = defaultdict(list)
    for call in sorted(history.calls, key=lambda each: each.began):
        if call.operation != CANCEL:
            continue
        sends[call.token].append(call)
        yield from _check_send(call, intents.get(call.token, []), history.bounds.decision_max_age)
    for token, calls in sends.items():
        if any(call.acted for call in calls[:-1]):
            where = ", ".join(call.replica for call in calls)
            yield f"the token {token} was sent {len(calls)} times, by {where}, though EKS may have acted"


def _check_send(call: EksCall, intents: list[tuple[CommittedEvent, Intent]], max_age: float) -> Iterator[str]:
    about = f"CancelUpdate of {call.ref} by {call.replica}"
    if not intents:
        yield f"{about}: no intent has its token {call.token!r}"
        return
    before = [pair for pair in intents if pair[0].committed <= call.began]
    if not before:
        yield f"{about}: sent {intents[0][0].committed - call.began:.3f} s before its intent was committed"
        return
    intent = before[-1][1]
    if not intent.decision.allowed:
        yield f"{about}: {intent.cancellation_id} was not allowed"
    if intent.request.ref != call.ref:
        yield f"{about}: {intent.cancellation_id} is about {intent.request.ref}"
    decided = (intent.decision_time or intent.time).timestamp()
    if call.began - decided > max_age:
        yield f"{about}: sent {call.began - decided:.1f} s after the decision of {intent.cancellation_id}"


def calls_keep_the_budget(history: History) -> Iterator[str]:
    """Point 8: in any window of a target at most size + rate × window calls, over all replicas."""
    rate = history.bounds.rate
    size = history.bounds.size + rate * history.bounds.late  # tokens of before the window may arrive in it
    targets: dict[object, list[EksCall]] = defaultdict(list)
    for call in sorted(history.calls, key=lambda each: each.began):
        targets[call.target].append(call)
    for target, calls in targets.items():
        lowest, first = FOREVER, calls[0]
        for number, call in enumerate(calls):
            level = number - rate * call.began  # what the window before this call costs
            if level < lowest:
                lowest, first = level, call
            if level - lowest + 1 > size:
                window = call.began - first.began
                yield (
                    f"{target}: {level - lowest + 1 + rate * window:.0f} calls in {window:.2f} s,"
                    f" where {size + rate * window:.1f} are due"
                )
                break


def looks_do_not_overlap(history: History) -> Iterator[str]:
    """Point 9: a second replica looks at an update while one does only after that one's claim ran out.

    Reads of a cancel or a check are no looks. While the way to the database is disturbed, or a replica was
    frozen, each replica looks for itself.
    """
    own = _own_reads(history)
    looks: dict[object, list[EksCall]] = defaultdict(list)
    for call in sorted(history.calls, key=lambda each: each.began):
        if call.operation == LOOK and not _is_own(call, own):
            looks[call.ref].append(call)
    for ref, calls in looks.items():
        for one, other in pairwise(calls):
            overlap = other.began < one.ended and one.replica != other.replica
            if (
                overlap
                and other.began < one.began + history.bounds.claim
                and not _is_disturbed(history, one, other)
            ):
                yield f"{ref}: {one.replica} and {other.replica} looked at once at {other.began:.3f}"


def _own_reads(history: History) -> dict[object, list[tuple[float, float]]]:
    """When each replica may have read an update for a call of its own."""
    slack = history.bounds.slack
    own: dict[object, list[tuple[float, float]]] = defaultdict(list)
    for attempt in history.attempts:
        # A run goes on after its client has left.
        until = attempt.ended + (slack if attempt.result != "NO_ANSWER" else history.bounds.decision_max_age)
        own[attempt.replica, attempt.request.ref].append((attempt.began, until))
    for read in history.reads:
        own[read.replica, read.ref].append((read.began, read.ended + slack))
    return own


def _is_own(call: EksCall, own: dict[object, list[tuple[float, float]]]) -> bool:
    return any(began <= call.began <= ended for began, ended in own.get((call.replica, call.ref), ()))


def _is_disturbed(history: History, one: EksCall, other: EksCall) -> bool:
    """Whether PostgreSQL was away, or a replica of the two could not reach it or was frozen."""
    bounds, two = history.bounds, {one.replica, other.replica}
    for fault in history.faults:
        stops = not fault.ends and (fault.replicas & two or (fault.database and not fault.replicas))
        if stops and fault.began - bounds.slack <= other.began <= fault.ended + bounds.claim + bounds.slack:
            return True
    return False
