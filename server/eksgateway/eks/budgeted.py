"""``Eks`` within the budget, for one purpose: every call waits for its turn."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from eksgateway.eks.budget import Budget, Lane
from eksgateway.eks.protocol import Eks
from eksgateway.model import Caller, ClusterFacts, ClusterRef, Target, Update, UpdateRef

T = TypeVar("T")


class Budgeted:
    """Implements ``protocol.Eks``; its reads go in ``lane``. Callers take turns, so that the calls of one, of
    however many clusters, hold up nobody else. ``who`` waits for calls that are on behalf of no caller.
    """

    def __init__(self, eks: Eks, budget: Budget, lane: Lane, who: str = "") -> None:
        self._eks = eks
        self._budget = budget
        self._lane = lane
        self._who = who

    def asked_by(self, who: str) -> Budgeted:
        """The same for the calls that a caller waits for, and that are made by the gateway for itself."""
        return Budgeted(self._eks, self._budget, self._lane, who)

    def serves(self, cluster: ClusterRef) -> bool:
        """Whether the cluster's account and region are configured."""
        return self._eks.serves(cluster)

    async def list_clusters(
        self, target: Target, page_size: int, page_token: str
    ) -> tuple[tuple[str, ...], str]:
        """ListClusters: cluster names, and EKS's token of the next page (empty after the last)."""
        return await self._budget.call(
            self._lane,
            target,
            self._who,
            lambda: self._eks.list_clusters(target, page_size, page_token),
        )

    async def describe_cluster(
        self, cluster: ClusterRef, *, on_behalf_of: Caller | None = None
    ) -> ClusterFacts:
        """DescribeCluster."""
        work = lambda: self._eks.describe_cluster(cluster, on_behalf_of=on_behalf_of)  # noqa: E731
        return await self._read(cluster, work, on_behalf_of)

    async def describe_update(self, ref: UpdateRef, *, on_behalf_of: Caller | None = None) -> Update:
        """DescribeUpdate, for cluster updates."""
        work = lambda: self._eks.describe_update(ref, on_behalf_of=on_behalf_of)  # noqa: E731
        return await self._read(ref.cluster, work, on_behalf_of)

    async def list_updates(
        self, cluster: ClusterRef, page_size: int, page_token: str
    ) -> tuple[tuple[str, ...], str]:
        """ListUpdates: update ids, and EKS's token of the next page (empty after the last)."""
        return await self._read(
            cluster,
            lambda: self._eks.list_updates(cluster, page_size, page_token),
        )

    async def cancel_update(
        self, ref: UpdateRef, *, on_behalf_of: Caller, token: str, send_before: float
    ) -> Update:
        """CancelUpdate, tried once on the wire; DecisionStale when its turn did not come in time."""
        return await self._budget.call(
            Lane.FORWARD,
            ref.cluster.target,
            on_behalf_of.id,
            lambda: self._eks.cancel_update(
                ref, on_behalf_of=on_behalf_of, token=token, send_before=send_before
            ),
            until=send_before,
        )

    async def close(self) -> None:
        """Close what calls EKS."""
        await self._eks.close()

    async def _read(
        self, cluster: ClusterRef, read: Callable[[], Awaitable[T]], caller: Caller | None = None
    ) -> T:
        who = caller.id if caller else self._who
        return await self._budget.call(self._lane, cluster.target, who, read)
