"""Queues of waiting calls. The flows of a band take turns, and the bands take turns by their weights."""

from __future__ import annotations

import asyncio
from collections import deque
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
    waits_until: float = 0.0  # the event loop's time


class Queues:
    def __init__(self) -> None:
        # By band: its flows that have waiting calls, in the order of their turns.
        self._bands: tuple[tuple[Band, dict[Flow, deque[Seat]]], ...] = tuple((band, {}) for band in Band)
        self._by_band = dict(self._bands)
        self._credits = dict.fromkeys(Band, 0)
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __contains__(self, flow: Flow) -> bool:
        return flow in self._by_band[flow.band]

    def length(self, flow: Flow) -> int:
        return len(self._by_band[flow.band].get(flow, ()))

    def add(self, seat: Seat) -> None:
        queues, flow = self._by_band[seat.flow.band], seat.flow
        if flow not in queues:
            queues[flow] = deque()
        queues[flow].append(seat)
        self._size += 1

    def remove(self, seat: Seat) -> None:
        queue = self._by_band[seat.flow.band][seat.flow]
        queue.remove(seat)
        self._size -= 1
        if not queue:
            self._forget(seat.flow)

    def last_of_longest(self) -> Seat:
        """The newest seat of the longest queue."""
        queues = (queue for _, band in self._bands for queue in band.values())
        return max(queues, key=len)[-1]

    def take(self, admits: Callable[[Flow], bool]) -> Seat | None:
        """Remove and return the next seat of the flows that ``admits`` accepts."""
        weights, best = 0, None
        # Smooth weighted round robin: each band is credited its weight, and the richest pays for all.
        for band, queues in self._bands:
            for flow in queues:
                if admits(flow):
                    self._credits[band] += band
                    weights += band
                    if best is None or self._credits[band] > self._credits[best.band]:
                        best = flow
                    break
        if best is None:
            return None
        self._credits[best.band] -= weights
        queues = self._by_band[best.band]
        queue = queues.pop(best)
        seat = queue.popleft()
        self._size -= 1
        queues[best] = queue  # behind the others
        if not queue:
            self._forget(best)
        return seat

    def _forget(self, flow: Flow) -> None:
        queues = self._by_band[flow.band]
        del queues[flow]
        if not queues:
            self._credits[flow.band] = 0
