"""Reads of EKS that get, list, watch, reauthorization and polling share. A cancel reads on its own."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from eksgateway.clock import Clock
from eksgateway.eks.budget import Budget
from eksgateway.eks.looks import Look, Looks
from eksgateway.eks.protocol import Eks, Page
from eksgateway.eks.shared_calls import SharedCalls
from eksgateway.eks.target_budget import Lane
from eksgateway.errors import EksRefused, EksUnavailable
from eksgateway.model import ClusterFacts, ClusterRef, Target, Update, UpdateRef

CACHE_SIZE: Final = 4096  # results of each kind
_PAGE_SIZE: Final = 100  # the most that EKS allows
_MOST_PAGES: Final = 100


@dataclass(frozen=True, slots=True)
class SeenUpdate:
    """An update, and when the call that read it began: ``observe_time`` (UTC), ``began`` (monotonic).

    ``changed`` and ``mine`` are as in ``Look``.
    """

    update: Update
    observe_time: datetime
    began: float
    changed: float | None = None
    mine: bool = True


@dataclass(frozen=True, slots=True)
class ReplicaLooks:
    """The reads that replicas share. Listings are not shared."""

    clusters: Looks[ClusterRef, ClusterFacts]
    updates: Looks[UpdateRef, Update]


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


class SharedReads:
    """Callers that ask for the same share one call, made at the first turn of any of them.

    A result is used if its call began less than ``max_age`` seconds before the read. With 0 the call begins
    after the read: the running call ends first, then one more is made for every caller that came meanwhile.
    With ``looks``, the looks of other replicas count as calls.
    Errors go to every caller that waits, and are not cached. Raises what ``Budget.call`` and ``Eks`` raise.
    """

    def __init__(
        self,
        eks: Eks,
        budget: Budget,
        clock: Clock,
        cache_size: int = CACHE_SIZE,
        looks: ReplicaLooks | None = None,
    ) -> None:
        self.shared = looks is not None  # with other replicas
        clusters, updates = (looks.clusters, looks.updates) if looks else (None, None)
        self._clusters = SharedCalls(eks.describe_cluster, budget, clock, cache_size, clusters)
        self._updates = SharedCalls(eks.describe_update, budget, clock, cache_size, updates)
        self._clusters_pages: SharedCalls[_ClustersPage, Page] = SharedCalls(
            lambda page: eks.list_clusters(page.target, _PAGE_SIZE, page.token), budget, clock, cache_size
        )
        self._updates_pages: SharedCalls[_UpdatesPage, Page] = SharedCalls(
            lambda page: eks.list_updates(page.cluster, _PAGE_SIZE, page.token), budget, clock, cache_size
        )

    async def cluster(self, ref: ClusterRef, max_age: float, caller: Hashable) -> ClusterFacts:
        return (await self._clusters.get(ref, max_age, Lane.READ, caller)).value

    async def update(self, ref: UpdateRef, max_age: float, caller: Hashable) -> SeenUpdate:
        """A final update is returned at any age, because it does not change."""
        known = self._updates.find_cached(ref)
        if known is None:
            with suppress(EksRefused):  # of any age
                known = await self._updates.find(ref, -math.inf)
        if known is not None and known.value.final:
            return _to_seen(known)
        return _to_seen(await self._updates.get(ref, max_age, Lane.READ, caller))

    async def poll(self, ref: UpdateRef, max_age: float, *, is_first: bool = False) -> SeenUpdate:
        """Like ``update``, but waits for its turn as long as it takes.

        A refusal counts like a result, except for the first poll: the update may have appeared since.
        """
        read = self._updates.get(ref, max_age, Lane.POLL, ref, accepts_refusal=not is_first)
        return _to_seen(await read)

    async def find(self, ref: UpdateRef, oldest: float) -> SeenUpdate | None:
        """The newest read of any replica, if its call began after ``oldest`` (monotonic). Makes no call.

        Raises the EksRefused that EKS answered to the newest call.
        """
        look = await self._updates.find(ref, oldest)
        return _to_seen(look) if look else None

    def subscribe(self, ref: UpdateRef, hear: Callable[[], None]) -> Callable[[], None]:
        """Call ``hear`` when ``find`` may return something new, until the returned function is called.

        An update has one subscriber.
        """
        return self._updates.subscribe(ref, hear)

    async def cluster_names(self, target: Target, max_age: float, caller: Hashable) -> tuple[str, ...]:
        """All pages of ListClusters, each at most ``max_age`` seconds old."""
        return await _all_pages(
            lambda token: self._clusters_pages.get(_ClustersPage(target, token), max_age, Lane.READ, caller)
        )

    async def update_ids(self, cluster: ClusterRef, max_age: float, caller: Hashable) -> tuple[str, ...]:
        """All pages of ListUpdates, each at most ``max_age`` seconds old."""
        return await _all_pages(
            lambda token: self._updates_pages.get(_UpdatesPage(cluster, token), max_age, Lane.READ, caller)
        )

    def forget(self, ref: UpdateRef) -> None:
        """Drop what was read of an update, because a cancel has changed it."""
        self._updates.forget(ref)


def _to_seen(look: Look[Update]) -> SeenUpdate:
    return SeenUpdate(look.value, look.time, look.began, look.changed, look.mine)


async def _all_pages(read: Callable[[str], Awaitable[Look[Page]]]) -> tuple[str, ...]:
    found: list[str] = []
    token = ""
    for _ in range(_MOST_PAGES):
        page, token = (await read(token)).value
        found += page
        if not token:
            return tuple(found)
    raise EksUnavailable("A listing of EKS has too many pages.")
