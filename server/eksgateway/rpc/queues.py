"""Queues of calls, one for each flow, that take turns; pure: nothing here waits.

A flow is a caller, or for calls that have not proved anything, their connection. The flows of a band take
turns, and the bands take turns by their weights.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple


class Band(IntEnum):
    """What the calls of a flow are. The value is how many turns of ten the band gets."""

    CANCEL = 4
    OPEN = 3  # health and reflection: they cost little, and a probe that fails ends the process
    READ = 2
    STRANGER = 1  # nothing is proved: part of a flood, or the first call of a caller

    @property
    def of_connections(self) -> bool:
        """Whether each connection has a flow here, and not each caller."""
        return self in (Band.OPEN, Band.STRANGER)


class Flow(NamedTuple):
    """``key`` is a caller's id, or names a connection. A caller has a flow in CANCEL and one in READ."""

    key: str
    band: Band


@dataclass(slots=True, eq=False)
class Seat:
    """A call's place. ``served`` is None while the call waits for ``turn``; False when it was sent away."""

    flow: Flow
    served: bool | None = None
    turn: asyncio.Future[None] | None = None
    timer: asyncio.TimerHandle | None = None


class Queues:
    """Seats that wait, in the order in which they get their turns. Empty queues are forgotten."""

    def __init__(self) -> None:
        self._queues: dict[Band, OrderedDict[str, deque[Seat]]] = {band: OrderedDict() for band in Band}
        self._credits: Counter[Band] = Counter()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __contains__(self, flow: Flow) -> bool:
        return flow.key in self._queues[flow.band]

    def length(self, flow: Flow) -> int:
        return len(self._queues[flow.band].get(flow.key, ()))

    def add(self, seat: Seat) -> None:
        self._queues[seat.flow.band].setdefault(seat.flow.key, deque()).append(seat)
        self._size += 1

    def remove(self, seat: Seat) -> None:
        """Take a seat out of the middle of its queue."""
        queue = self._queues[seat.flow.band][seat.flow.key]
        queue.remove(seat)
        self._shrunk(seat.flow)

    def last_of_longest(self) -> Seat:
        """The newest seat of the longest queue; there must be one."""
        queues = (queue for band in self._queues.values() for queue in band.values())
        return max(queues, key=len)[-1]

    def take(self, admits: Callable[[Flow], bool]) -> Seat | None:
        """The next seat of the flows that ``admits`` accepts, taken out of its queue."""
        ready = {band: key for band in Band if (key := self._first(band, admits)) is not None}
        if not ready:
            return None
        # Smooth weighted round robin: each band is credited its weight, and the richest pays for all.
        for band in ready:
            self._credits[band] += band.value
        band = max(ready, key=lambda each: self._credits[each])
        self._credits[band] -= sum(each.value for each in ready)
        flow = Flow(ready[band], band)
        queue = self._queues[band]
        seat = queue[flow.key].popleft()
        queue.move_to_end(flow.key)
        self._shrunk(flow)
        return seat

    def _first(self, band: Band, admits: Callable[[Flow], bool]) -> str | None:
        return next((key for key in self._queues[band] if admits(Flow(key, band))), None)

    def _shrunk(self, flow: Flow) -> None:
        self._size -= 1
        if not self._queues[flow.band][flow.key]:
            del self._queues[flow.band][flow.key]
        if not self._queues[flow.band]:
            self._credits[flow.band] = 0
