"""Turns the states a watcher sees into the numbered events of one stream."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from eksgateway.model import Phase, Update
from eksgateway.watch.resume import ResumePosition
from eksgateway.watch.slot import Watcher
from eksgateway.watch.state import WatchState


class WatchKind(StrEnum):
    """Why an event is sent."""

    SNAPSHOT = "SNAPSHOT"
    CHANGE = "CHANGE"
    HEARTBEAT = "HEARTBEAT"
    FINAL = "FINAL"


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One message of a watch. Each is whole: a HEARTBEAT repeats the last state and its sequence,
    with the time EKS was last seen.
    """

    kind: WatchKind
    state: WatchState
    sequence: int
    observe_time: datetime

    @property
    def update(self) -> Update:
        return self.state.update

    @property
    def phase(self) -> Phase | None:
        return self.state.phase

    @property
    def position(self) -> ResumePosition:
        """Where whoever got this event is."""
        return ResumePosition(self.sequence, self.state.digest, final=self.kind is WatchKind.FINAL)


async def events(
    watcher: Watcher, heartbeat_s: float, position: ResumePosition | None = None
) -> AsyncIterator[WatchEvent]:
    """SNAPSHOT, then CHANGEs with HEARTBEATs between them, then FINAL, after which it ends.

    ``sequence`` rises by one per event that is not a heartbeat. An update that has ended already
    gives SNAPSHOT and FINAL. From a position the line of an earlier stream goes on: no SNAPSHOT, but
    a HEARTBEAT at once where the client has the current state, because a proxy or a client ends a
    stream on which nothing comes; FINAL is always told, from its own position again with its own
    sequence. ``watcher`` was subscribed with the same position. Raises what ``watcher.next`` raises.
    """
    last: WatchEvent | None = None
    while last is None or last.kind is not WatchKind.FINAL:
        state = await watcher.next(heartbeat_s)
        if state is None:
            if last is not None:  # the first message is a state, however long EKS takes
                seen = watcher.last_seen or last.observe_time
                yield replace(last, kind=WatchKind.HEARTBEAT, observe_time=seen)
            continue
        sequence, kinds = _after(last, state) if last else _first(position, state)
        for number, kind in enumerate(kinds, sequence + 1):
            last = WatchEvent(kind, state, number, state.observe_time)
            yield last
        if last is None:
            last = WatchEvent(WatchKind.HEARTBEAT, state, sequence, state.observe_time)
            yield last


def _after(last: WatchEvent, state: WatchState) -> tuple[int, tuple[WatchKind, ...]]:
    return last.sequence, (WatchKind.FINAL if state.final else WatchKind.CHANGE,)


def _first(position: ResumePosition | None, state: WatchState) -> tuple[int, tuple[WatchKind, ...]]:
    """The sequence before a stream's first state, and what is told of that state."""
    if position is None:
        return 0, (WatchKind.SNAPSHOT, WatchKind.FINAL) if state.final else (WatchKind.SNAPSHOT,)
    if state.final:
        return position.sequence - position.final, (WatchKind.FINAL,)
    return position.sequence, () if position.tells_of(state) else (WatchKind.CHANGE,)
