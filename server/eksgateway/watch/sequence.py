"""Turns the states a watcher sees into the numbered events of one stream."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from eksgateway.model import Phase, Update
from eksgateway.watch.slot import Watcher


class Kind(StrEnum):
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

    kind: Kind
    update: Update
    phase: Phase | None
    sequence: int
    observe_time: datetime


async def events(watcher: Watcher, heartbeat_s: float, after: int = 0) -> AsyncIterator[WatchEvent]:
    """SNAPSHOT, then CHANGEs with HEARTBEATs between them, then FINAL, after which it ends.

    ``sequence`` goes on from ``after`` and rises by one per event that is not a heartbeat. An
    update that has ended already gives SNAPSHOT and FINAL. Raises what ``watcher.next`` raises.
    """
    last: WatchEvent | None = None
    while last is None or last.kind is not Kind.FINAL:
        state = await watcher.next(heartbeat_s)
        if state is None:
            if last is not None:  # the first message is a state, however long EKS takes
                seen = watcher.last_seen or last.observe_time
                yield WatchEvent(Kind.HEARTBEAT, last.update, last.phase, last.sequence, seen)
            continue
        kinds = [Kind.SNAPSHOT] if last is None else []
        if state.final:
            kinds.append(Kind.FINAL)
        for kind in kinds or [Kind.CHANGE]:
            after += 1
            last = WatchEvent(kind, state.update, state.phase, after, state.observe_time)
            yield last
