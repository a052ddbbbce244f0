"""The numbered events of one watch stream."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from eksgateway.model import Phase, Update
from eksgateway.watch.resume import ResumePosition
from eksgateway.watch.slot import Slot, WatchState


class WatchKind(StrEnum):
    SNAPSHOT = "SNAPSHOT"
    CHANGE = "CHANGE"
    HEARTBEAT = "HEARTBEAT"
    FINAL = "FINAL"


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One message of a watch. A HEARTBEAT repeats the last state, with the time of EKS's last answer."""

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
        return ResumePosition(self.sequence, self.state.digest, final=self.kind is WatchKind.FINAL)


async def watch_events(
    slot: Slot, heartbeat_s: float, position: ResumePosition | None = None
) -> AsyncIterator[WatchEvent]:
    """Yield SNAPSHOT, then CHANGEs with HEARTBEATs between them, then FINAL.

    ``sequence`` rises by one per event that is not a heartbeat. Raises as ``Slot.next``.

    From a position, with which the slot was subscribed too, an earlier stream goes on without SNAPSHOT. If
    the client has the current state, a HEARTBEAT comes at once, because proxies and clients end an empty
    stream. FINAL is always sent; from FINAL's own position with the same sequence.
    """
    last: WatchEvent | None = None
    while last is None or last.kind is not WatchKind.FINAL:
        state = await slot.next(heartbeat_s)
        if state is None:
            if last is not None:  # the first message is a state, however long EKS takes
                seen = slot.last_seen or last.observe_time
                yield replace(last, kind=WatchKind.HEARTBEAT, observe_time=seen)
            continue
        if last is None:
            sequence, kinds = _first_kinds(position, state)
        else:
            sequence, kinds = last.sequence, (WatchKind.FINAL if state.final else WatchKind.CHANGE,)
        for number, kind in enumerate(kinds, sequence + 1):
            last = WatchEvent(kind, state, number, state.observe_time)
            yield last
        if last is None:
            last = WatchEvent(WatchKind.HEARTBEAT, state, sequence, state.observe_time)
            yield last


def _first_kinds(position: ResumePosition | None, state: WatchState) -> tuple[int, tuple[WatchKind, ...]]:
    """The sequence before a stream's first state, and that state's events."""
    if position is None:
        return 0, (WatchKind.SNAPSHOT, WatchKind.FINAL) if state.final else (WatchKind.SNAPSHOT,)
    if state.final:
        return position.sequence - position.final, (WatchKind.FINAL,)
    return position.sequence, () if position.matches(state) else (WatchKind.CHANGE,)
