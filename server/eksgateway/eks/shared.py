"""What EKS says that get, list, watch, re-authorisation and polling share: one call however many ask at once.

Not for a cancel, which reads afresh through ``Eks`` itself.
"""

from __future__ import annotations

import asyncio
import copy
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from eksgateway.clock import Clock
from eksgateway.eks.budget import Budget, Lane, Waiting
from eksgateway.eks.protocol import Eks
from eksgateway.errors import EksUnavailable, GatewayError, Overloaded
from eksgateway.model import ClusterFacts, ClusterRef, Target, Update, UpdateRef

KEPT = 4096  # of each kind

_PAGE = 100  # EKS's greatest
_MOST_PAGES = 100


class _Key(Hashable, Protocol):
    @property
    def target(self) -> Target:
        """Whose budget its calls come out of."""


K = TypeVar("K", bound=_Key)
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Seen:
    """An update as EKS showed it.

    Both times are those of the start of the call that saw it, so the state is at least as new;
    ``stamp`` is the monotonic one.
    """

    update: Update
    observe_time: datetime
    stamp: float


@dataclass(frozen=True, slots=True)
class _ClustersPage:
    target: Target
    token: str


@dataclass(frozen=True, slots=True)
class _UpdatesPage:
    cluster: ClusterRef
    token: str

    @property
    def target(self) -> Target:
        return self.cluster.target


Listed = tuple[tuple[str, ...], str]


class SharedReads:
    """What EKS describes and lists, shared, each call when its turn comes in the budget.

    An answer is good for ``max_age`` if its call began less than ``max_age`` seconds before one
    asks. With 0 it begins after one asks: a call under way then is waited for, and one more,
    shared by all who came meanwhile, is made; one that waits for its turn has not begun. Calls take
    turns by ``who`` asks, and come as soon as the first of all who ask for the same. Errors go to
    those who wait, and are never kept. Raises what ``Budget.call`` and ``Eks`` raise.
    """

    def __init__(self, eks: Eks, budget: Budget, clock: Clock, kept: int = KEPT) -> None:
        self._clusters = _Shelf(eks.describe_cluster, budget, clock, kept)
        self._updates = _Shelf(eks.describe_update, budget, clock, kept)
        self._clusters_pages: _Shelf[_ClustersPage, Listed] = _Shelf(
            lambda page: eks.list_clusters(page.target, _PAGE, page.token), budget, clock, kept
        )
        self._updates_pages: _Shelf[_UpdatesPage, Listed] = _Shelf(
            lambda page: eks.list_updates(page.cluster, _PAGE, page.token), budget, clock, kept
        )

    async def cluster(self, ref: ClusterRef, max_age: float, who: Hashable) -> ClusterFacts:
        """What DescribeCluster says, at most ``max_age`` seconds old."""
        return (await self._clusters.get(ref, max_age, Lane.ASK, who)).value

    async def update(self, ref: UpdateRef, max_age: float, who: Hashable) -> Seen:
        """What DescribeUpdate says, at most ``max_age`` seconds old; older only when the update had ended,
        which nothing changes.
        """
        kept = self._updates.kept(ref)
        if kept is not None and kept.value.final:
            return _seen(kept)
        return _seen(await self._updates.get(ref, max_age, Lane.ASK, who))

    async def poll(self, ref: UpdateRef, max_age: float) -> Seen:
        """As ``update``, for whoever can wait: for as long as the turn takes, behind those who cannot."""
        return _seen(await self._updates.get(ref, max_age, Lane.POLL, ref))

    async def cluster_names(self, target: Target, max_age: float, who: Hashable) -> tuple[str, ...]:
        """The names in every page of ListClusters, each page at most ``max_age`` seconds old."""
        return await _every(
            lambda token: self._clusters_pages.get(_ClustersPage(target, token), max_age, Lane.ASK, who)
        )

    async def update_ids(self, cluster: ClusterRef, max_age: float, who: Hashable) -> tuple[str, ...]:
        """The ids in every page of ListUpdates, each page at most ``max_age`` seconds old."""
        return await _every(
            lambda token: self._updates_pages.get(_UpdatesPage(cluster, token), max_age, Lane.ASK, who)
        )

    def forget(self, ref: UpdateRef) -> None:
        """Tell nobody any more what was seen of an update until now: a cancel has changed it."""
        self._updates.forget(ref)


@dataclass(frozen=True, slots=True)
class _Answer(Generic[V]):
    value: V
    time: datetime
    stamp: float


def _seen(answer: _Answer[Update]) -> Seen:
    return Seen(answer.value, answer.time, answer.stamp)


async def _every(read: Callable[[str], Awaitable[_Answer[Listed]]]) -> tuple[str, ...]:
    """What all pages of a listing hold."""
    found: list[str] = []
    token = ""
    for _ in range(_MOST_PAGES):
        listed, token = (await read(token)).value
        found += listed
        if not token:
            return tuple(found)
    raise EksUnavailable("A listing of EKS does not come to its end.")


@dataclass(slots=True)
class _Flight(Generic[V]):
    turn: Waiting
    after: _Flight[V] | None  # the one before it, while that is under way
    began: float | None = None  # None while it waits for its turn, or for the flight before it
    waiting: int = 0
    task: asyncio.Task[_Answer[V]] = field(init=False)


class _Shelf(Generic[K, V]):
    """The latest answers by key, least recently used first; per key one call at most, and its successor."""

    def __init__(self, read: Callable[[K], Awaitable[V]], budget: Budget, clock: Clock, size: int) -> None:
        self._read = read
        self._budget = budget
        self._clock = clock
        self._size = size
        self._kept: OrderedDict[K, _Answer[V]] = OrderedDict()
        self._newest: dict[K, _Flight[V]] = {}

    def kept(self, key: K) -> _Answer[V] | None:
        """The latest answer, however old."""
        answer = self._kept.get(key)
        if answer is not None:
            self._kept.move_to_end(key)
        return answer

    async def get(self, key: K, max_age: float, lane: Lane, who: Hashable) -> _Answer[V]:
        oldest = self._clock.monotonic() - max_age
        while True:
            kept = self.kept(key)
            if kept is not None and kept.stamp > oldest:
                return kept
            flight = self._join(key, oldest, lane, who)
            try:
                return await self._answer(key, flight)
            except Overloaded:  # for callers; a poll waits as long as it takes
                if lane is not Lane.POLL or flight.turn.lane is Lane.POLL:
                    raise

    def _join(self, key: K, oldest: float, lane: Lane, who: Hashable) -> _Flight[V]:
        flight = self._newest.get(key)
        if flight is None or (flight.began is not None and flight.began <= oldest):
            flight = self._start(key, Waiting(lane, [who]), after=flight)
        elif flight.began is None and lane is Lane.ASK:
            self._budget.join(flight.turn, key.target, who)
        return flight

    async def _answer(self, key: K, flight: _Flight[V]) -> _Answer[V]:
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.task)  # a caller who leaves ends nobody else's call
        except GatewayError as error:
            raise _own(error) from error
        finally:
            flight.waiting -= 1
            if flight.began is None and not flight.waiting:  # nobody needs it any more
                self._land(key, flight)
                flight.task.cancel()

    def _start(self, key: K, turn: Waiting, after: _Flight[V] | None) -> _Flight[V]:
        flight = self._newest[key] = _Flight[V](turn, after)
        flight.task = asyncio.create_task(self._fly(key, flight))
        flight.task.add_done_callback(_look_at)
        return flight

    async def _fly(self, key: K, flight: _Flight[V]) -> _Answer[V]:
        if flight.after is not None:
            await asyncio.wait({flight.after.task})
            flight.after = None
        try:
            answer = await self._budget.call_for(flight.turn, key.target, partial(self._call, key, flight))
        finally:
            newest = self._land(key, flight)
        if newest:  # else a successor is under way, or the key was forgotten
            self._kept[key] = answer
            self._kept.move_to_end(key)
            if len(self._kept) > self._size:
                self._kept.popitem(last=False)
        return answer

    async def _call(self, key: K, flight: _Flight[V]) -> _Answer[V]:
        time, flight.began = self._clock.now(), self._clock.monotonic()
        return _Answer(await self._read(key), time, flight.began)

    def _land(self, key: K, flight: _Flight[V]) -> bool:
        """Let nobody join it any more; whether it was the newest until now."""
        if self._newest.get(key) is not flight:
            return False
        if flight.after is not None and not flight.after.task.done():
            self._newest[key] = flight.after  # it never began, and the one before it goes on
        else:
            del self._newest[key]
        return True

    def forget(self, key: K) -> None:
        self._kept.pop(key, None)
        self._newest.pop(key, None)


def _look_at(task: asyncio.Task[Any]) -> None:
    """Or asyncio reports an error that nobody waits for any more."""
    if not task.cancelled():
        task.exception()


def _own(error: GatewayError) -> GatewayError:
    """A copy for one of several callers, each of whom gets metadata of their own."""
    mine = copy.copy(error)
    mine.metadata = dict(error.metadata)
    return mine
