"""Queues of waiting calls. The flows of a band take turns, and the bands take turns by their weights."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple


class Band(IntEnum):
    """The priority class of a flow. Its value is its weight: its turns of ten."""

    CANCEL = 4
    OPEN = 3  # health and reflection: they cost little, and a failed probe ends the process
    READ = 2
    STRANGER = 1  # not authenticated: part of a flood, or the first call of a caller

    @property
    def is_per_connection(self) -> bool:
        return self in (Band.OPEN, Band.STRANGER)


class Flow(NamedTuple):
    """``key`` is a caller's id, or names a connection. A caller has a flow in CANCEL and one in READ."""

    key: str
    band: Band


@dataclass(slots=True, eq=False)
class Seat:
    """``served`` is None while the call waits for ``turn``, and False once it has been refused."""

    flow: Flow
    served: bool | None = None
    turn: asyncio.Future[None] | None = None
    timer: asyncio.TimerHandle | None = None


class Queues:
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
        self._queues[seat.flow.band][seat.flow.key].remove(seat)
        self._count_down(seat.flow)

    def last_of_longest(self) -> Seat:
        """The newest seat of the longest queue."""
        queues = (queue for band in self._queues.values() for queue in band.values())
        return max(queues, key=len)[-1]

    def take(self, admits: Callable[[Flow], bool]) -> Seat | None:
        """Remove and return the next seat of the flows that ``admits`` accepts."""
        first = {band: key for band in Band if (key := self._first_key(band, admits)) is not None}
        if not first:
            return None
        # Smooth weighted round robin: each band is credited its weight, and the richest pays for all.
        for band in first:
            self._credits[band] += band.value
        band = max(first, key=lambda each: self._credits[each])
        self._credits[band] -= sum(each.value for each in first)
        flow = Flow(first[band], band)
        queue = self._queues[band]
        seat = queue[flow.key].popleft()
        queue.move_to_end(flow.key)
        self._count_down(flow)
        return seat

    def _first_key(self, band: Band, admits: Callable[[Flow], bool]) -> str | None:
        return next((key for key in self._queues[band] if admits(Flow(key, band))), None)

    def _count_down(self, flow: Flow) -> None:
        self._size -= 1
        if not self._queues[flow.band][flow.key]:
            del self._queues[flow.band][flow.key]
        if not self._queues[flow.band]:
            self._credits[flow.band] = 0
