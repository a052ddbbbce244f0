"""The rule of each watcher's messages, over all replicas that it went to: point 6."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from eksgateway.model import FINAL_STATUSES, Phase
from support.fleet.history import History, Line, Message, State, Stay

_CLOCKS = 0.05  # between the wall clock and the simulated one
HEARTBEAT, FINAL, SNAPSHOT, CHANGE = "HEARTBEAT", "FINAL", "SNAPSHOT", "CHANGE"


def lines_go_on(history: History) -> Iterator[str]:
    """Point 6: sequences rise by one, no state comes that EKS had left before the last one's look began, and
    FINAL comes once, last, with a final state.
    """
    for number, line in enumerate(history.lines, 1):
        for text in _check_line(line, history.stays.get(line.ref, ())):
            yield f"watcher {number} of {line.ref}: {text}"


def _check_line(line: Line, stays: Sequence[Stay]) -> Iterator[str]:
    messages = line.messages
    if messages and (messages[0].kind, messages[0].sequence) != (SNAPSHOT, 1):
        yield f"begins with {_name(messages[0])}"
    for message in messages:
        yield from _check_message(message, stays)
    for one, other in pairwise(messages):
        step = 0 if other.kind == HEARTBEAT else 1
        if other.sequence != one.sequence + step:
            yield f"{_name(other)} follows {_name(one)}"
        if other.kind == SNAPSHOT or one.kind == FINAL:
            yield f"{_name(other)} comes after {_name(one)}"
        if other.kind == HEARTBEAT and (other.state, other.phase) != (one.state, one.phase):
            yield f"{_name(other)} differs from {_name(one)}"
        left = _left(other.state, stays)
        if left is not None and left + _CLOCKS < _began(one, stays):
            yield f"{_name(other)} was over {_began(one, stays) - left:.2f} s before {_name(one)} was seen"


def _check_message(message: Message, stays: Sequence[Stay]) -> Iterator[str]:
    stay = next((stay for stay in stays if stay.state == message.state), None)
    if stay is None:
        yield f"{_name(message)}, which EKS never showed"
    elif message.received + _CLOCKS < stay.since:
        yield f"{_name(message)} came {stay.since - message.received:.2f} s before EKS showed it"
    if (message.kind == FINAL) and message.state[0] not in FINAL_STATUSES:
        yield f"{_name(message)} is not final"
    if message.phase == Phase.CANCELLED.value and message.state[0] != "Cancelled":
        yield f"{_name(message)} has the phase {message.phase}"


def _began(message: Message, stays: Sequence[Stay]) -> float:
    """When its look began, at the latest: the time in a message may be that of a record written late."""
    left = _left(message.state, stays)
    return message.observed if left is None else min(message.observed, left)


def _left(state: State, stays: Sequence[Stay]) -> float | None:
    return max((stay.until for stay in stays if stay.state == state), default=None)


def _name(message: Message) -> str:
    status, cancellation = message.state
    shown = f"{status}/{cancellation}" if cancellation else status
    return f"{message.kind} {message.sequence} {shown} of {message.replica}"
