"""Facts of EKS that get, list, watch and re-authorisation share: one call however many ask at once.

Not for a cancel, which reads afresh through ``Eks`` itself.
"""

from __future__ import annotations

import asyncio
import copy
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, TypeVar

from eksgateway.clock import Clock
from eksgateway.eks.protocol import Eks
from eksgateway.errors import GatewayError
from eksgateway.model import ClusterFacts, ClusterRef, Update, UpdateRef

K = TypeVar("K")
V = TypeVar("V")

KEPT = 4096  # of each kind


@dataclass(frozen=True, slots=True)
class Seen:
    """An update as EKS showed it.

    Both times are those of the start of the call that saw it, so the state is at least as new;
    ``stamp`` is the monotonic one.
    """

    update: Update
    observe_time: datetime
    stamp: float


class SharedReads:
    """DescribeCluster and DescribeUpdate, shared.

    An answer is good for ``max_age`` if its call began less than ``max_age`` seconds before one
    asks. With 0 it begins after one asks: a call under way then is waited for, and one more,
    shared by all who came meanwhile, is made. Errors go to those who wait, and are never kept.
    """

    def __init__(self, eks: Eks, clock: Clock, kept: int = KEPT) -> None:
        self._clusters = _Shelf(eks.describe_cluster, clock, kept)
        self._updates = _Shelf(eks.describe_update, clock, kept)

    async def cluster(self, ref: ClusterRef, max_age: float) -> ClusterFacts:
        """What DescribeCluster says, at most ``max_age`` seconds old."""
        return (await self._clusters.get(ref, max_age)).value

    async def update(self, ref: UpdateRef, max_age: float) -> Seen:
        """What DescribeUpdate says, at most ``max_age`` seconds old."""
        answer = await self._updates.get(ref, max_age)
        return Seen(answer.value, answer.time, answer.stamp)

    def forget(self, ref: UpdateRef) -> None:
        """Tell nobody any more what was seen of an update until now: a cancel has changed it."""
        self._updates.forget(ref)


@dataclass(frozen=True, slots=True)
class _Answer(Generic[V]):
    value: V
    time: datetime
    stamp: float


@dataclass(slots=True)
class _Flight(Generic[V]):
    began: float | None = None  # None while it waits for the flight before it
    task: asyncio.Task[_Answer[V]] = field(init=False)


class _Shelf(Generic[K, V]):
    """The latest answers by key, least recently used first; per key one call at most, and its successor."""

    def __init__(self, read: Callable[[K], Awaitable[V]], clock: Clock, size: int) -> None:
        self._read = read
        self._clock = clock
        self._size = size
        self._kept: OrderedDict[K, _Answer[V]] = OrderedDict()
        self._newest: dict[K, _Flight[V]] = {}

    async def get(self, key: K, max_age: float) -> _Answer[V]:
        oldest = self._clock.monotonic() - max_age
        kept = self._kept.get(key)
        if kept is not None and kept.stamp > oldest:
            self._kept.move_to_end(key)
            return kept
        flight = self._newest.get(key)
        if flight is None or (flight.began is not None and flight.began <= oldest):
            flight = self._start(key, after=flight)
        try:
            # Shielded: a caller who leaves ends nobody else's call. (shield also looks at the error
            # that then nobody waits for, which asyncio would report otherwise.)
            return await asyncio.shield(flight.task)
        except GatewayError as error:
            raise _own(error) from error

    def _start(self, key: K, after: _Flight[V] | None) -> _Flight[V]:
        flight = self._newest[key] = _Flight[V]()
        flight.task = asyncio.create_task(self._fly(key, flight, after))
        return flight

    async def _fly(self, key: K, flight: _Flight[V], after: _Flight[V] | None) -> _Answer[V]:
        if after is not None:
            await asyncio.wait({after.task})
        time, flight.began = self._clock.now(), self._clock.monotonic()
        newest = False
        try:
            answer = _Answer(await self._read(key), time, flight.began)
        finally:
            if self._newest.get(key) is flight:
                newest = True
                del self._newest[key]
        if newest:  # else a successor is under way, or the key was forgotten
            self._kept[key] = answer
            self._kept.move_to_end(key)
            if len(self._kept) > self._size:
                self._kept.popitem(last=False)
        return answer

    def forget(self, key: K) -> None:
        self._kept.pop(key, None)
        self._newest.pop(key, None)


def _own(error: GatewayError) -> GatewayError:
    """A copy for one of several callers, each of whom gets metadata of their own."""
    mine = copy.copy(error)
    mine.metadata = dict(error.metadata)
    return mine
