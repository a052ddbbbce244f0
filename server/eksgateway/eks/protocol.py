"""The EKS calls the gateway makes, and nothing else of AWS."""

from __future__ import annotations

from typing import Protocol

from eksgateway.model import Caller, ClusterFacts, ClusterRef, Target, Update, UpdateRef


class Eks(Protocol):
    """Amazon EKS in every configured target. Each method raises ``errors.EksError`` leaves only,
    besides ``TargetNotConfigured``, ``Overloaded`` (every thread busy, the queue full) and, for
    ``cancel_update``, ``DecisionStale``.

    A cancel and the reads before it are called ``on_behalf_of`` its caller, so that CloudTrail
    shows who, and have threads that other reads cannot take. Without it the gateway calls for itself.
    """

    def serves(self, cluster: ClusterRef) -> bool:
        """Whether the cluster's account and region are configured."""

    async def list_clusters(
        self, target: Target, page_size: int, page_token: str
    ) -> tuple[tuple[str, ...], str]:
        """ListClusters: cluster names, and EKS's token of the next page (empty after the last)."""

    async def describe_cluster(
        self, cluster: ClusterRef, *, on_behalf_of: Caller | None = None
    ) -> ClusterFacts:
        """DescribeCluster."""

    async def describe_update(self, ref: UpdateRef, *, on_behalf_of: Caller | None = None) -> Update:
        """DescribeUpdate, for cluster updates."""

    async def list_updates(
        self, cluster: ClusterRef, page_size: int, page_token: str
    ) -> tuple[tuple[str, ...], str]:
        """ListUpdates: update ids, and EKS's token of the next page (empty after the last)."""

    async def cancel_update(
        self, ref: UpdateRef, *, on_behalf_of: Caller, token: str, send_before: float
    ) -> Update:
        """CancelUpdate, tried once on the wire, with ``token`` as clientRequestToken.

        ``send_before`` is a monotonic time in seconds; it is checked on the worker thread just
        before sending, and past it DecisionStale is raised and nothing is sent. EksRefused,
        EksThrottled, EksNotReached, UpstreamCredentials and DecisionStale all mean that EKS did
        not act; EksNoAnswer means that this is not known.
        """

    async def close(self) -> None:
        """Wait a moment for calls on the wire, then leave them behind."""
