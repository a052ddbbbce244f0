"""The EKS operations that the gateway calls. A new operation goes here and into ``adapter``."""

from __future__ import annotations

from typing import Protocol, TypeAlias

from eksgateway.clock import Deadline
from eksgateway.model import Caller, ClusterFacts, ClusterRef, Target, Update, UpdateRef

# The names or ids on one page of a listing, and the token of the next page (empty after the last).
Page: TypeAlias = tuple[tuple[str, ...], str]


class Eks(Protocol):
    """Amazon EKS in every configured target.

    Each method raises leaves of ``errors.EksError``, ``TargetNotConfigured`` and ``Overloaded`` (every thread
    busy and the queue full).

    A cancel and its reads are made ``on_behalf_of`` its caller: CloudTrail names the caller, and other reads
    cannot take their threads. Without it the gateway calls as itself.
    """

    def serves(self, cluster: ClusterRef) -> bool:
        """Whether the cluster's account and region are configured."""

    async def list_clusters(self, target: Target, page_size: int, page_token: str) -> Page:
        """The names of clusters."""

    async def describe_cluster(
        self, cluster: ClusterRef, *, on_behalf_of: Caller | None = None
    ) -> ClusterFacts: ...

    async def describe_update(self, ref: UpdateRef, *, on_behalf_of: Caller | None = None) -> Update:
        """For cluster updates only."""

    async def list_updates(self, cluster: ClusterRef, page_size: int, page_token: str) -> Page:
        """The ids of updates."""

    async def cancel_update(
        self, ref: UpdateRef, *, on_behalf_of: Caller, token: str, send_before: Deadline
    ) -> Update:
        """Send it once, with ``token`` as clientRequestToken.

        Past ``send_before``, nothing is sent and DecisionStale is raised. EksRefused, EksThrottled,
        EksNotReached, UpstreamCredentials and DecisionStale mean that EKS did not act. EksNoAnswer means
        that it may have.
        """

    async def close(self) -> None:
        """Wait briefly for running calls, then leave them behind."""
