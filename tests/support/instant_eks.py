"""An EKS that answers at once, for tests of the times of calls."""

from __future__ import annotations

from eksgateway.clock import Clock, Deadline
from eksgateway.model import Caller, ClusterFacts, ClusterRef, Target, Update, UpdateRef


class InstantEks:
    """Implements ``eksgateway.eks.protocol.Eks``, reads of clusters and updates only.

    ``calls`` holds each call's resource and time. If ``error`` is set, each call raises it.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.calls: list[tuple[ClusterRef | UpdateRef, float]] = []
        self.status = "InProgress"
        self.error: Exception | None = None

    def times(self, ref: ClusterRef | UpdateRef) -> list[float]:
        """The times of calls for a resource."""
        return [time for called, time in self.calls if called == ref]

    def _record_call(self, ref: ClusterRef | UpdateRef) -> None:
        self.calls.append((ref, self._clock.monotonic()))
        if self.error is not None:
            raise self.error

    def serves(self, cluster: ClusterRef) -> bool:
        raise AssertionError(cluster)

    async def list_clusters(
        self, target: Target, page_size: int, page_token: str
    ) -> tuple[tuple[str, ...], str]:
        raise AssertionError(target, page_size, page_token)

    async def describe_cluster(
        self, cluster: ClusterRef, *, on_behalf_of: Caller | None = None
    ) -> ClusterFacts:
        assert on_behalf_of is None
        self._record_call(cluster)
        return ClusterFacts(arn=cluster.name, name=cluster.name, status="ACTIVE", version="1.33")

    async def describe_update(self, ref: UpdateRef, *, on_behalf_of: Caller | None = None) -> Update:
        assert on_behalf_of is None
        self._record_call(ref)
        return Update(ref.update_id, self.status, "VersionRollback")

    async def list_updates(
        self, cluster: ClusterRef, page_size: int, page_token: str
    ) -> tuple[tuple[str, ...], str]:
        raise AssertionError(cluster, page_size, page_token)

    async def cancel_update(
        self, ref: UpdateRef, *, on_behalf_of: Caller, token: str, send_before: Deadline
    ) -> Update:
        raise AssertionError(ref, on_behalf_of, token, send_before)

    async def close(self) -> None:
        pass
