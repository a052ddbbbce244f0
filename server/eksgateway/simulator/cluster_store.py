"""The clusters and updates of the simulated EKS, and their descriptions. No I/O."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any

from eksgateway.model import Target, UpdateCancellation, UpdateError
from eksgateway.simulator.clock import SimulatedClock
from eksgateway.simulator.lifecycle import ROLLBACK, Resource, SimulatedUpdate, Snapshot, Stage, take_snapshot


class ServiceError(Exception):
    def __init__(self, code: str, message: str, **members: str) -> None:
        super().__init__(message)
        self.code = code
        self.members = {"message": message, **members}


@dataclass(frozen=True, slots=True)
class SimulatedCluster:
    """A cluster and its updates by id, oldest first. ``set_status`` replaces the derived status."""

    target: Target
    name: str
    version: str
    tags: dict[str, str]
    auto_mode: bool
    created_at: datetime
    set_status: str | None = None
    updates: dict[str, SimulatedUpdate] = field(default_factory=dict)

    @property
    def arn(self) -> str:
        region = self.target.region
        return f"arn:{_partition(region)}:eks:{region}:{self.target.account_id}:cluster/{self.name}"


@dataclass(frozen=True, slots=True)
class _RecordedAnswer:
    params: dict[str, Any]
    answer: dict[str, Any]


class ClusterStore:
    """All accounts and regions. Not thread-safe."""

    def __init__(self, clock: SimulatedClock) -> None:
        self.clock = clock
        self._clusters: dict[Target, dict[str, SimulatedCluster]] = {}
        self._tokens: dict[tuple[Target, str], _RecordedAnswer] = {}

    def put(self, cluster: SimulatedCluster) -> None:
        """Add a cluster, in place of one of the same name."""
        self._clusters.setdefault(cluster.target, {})[cluster.name] = cluster

    def get(self, target: Target, name: str) -> SimulatedCluster:
        """Raises ServiceError."""
        cluster = self._clusters.get(target, {}).get(name)
        if cluster is None:
            message = f"No cluster found for name: {name}."
            raise ServiceError("ResourceNotFoundException", message, clusterName=name)
        return cluster

    def get_update(
        self, target: Target, name: str, update_id: str, resource: Resource | None = None
    ) -> SimulatedUpdate:
        """The update, if it is the resource's (without one: the cluster's own). Raises ServiceError."""
        update = self.get(target, name).updates.get(update_id)
        if update is None or update.resource != resource:
            message = f"No update found for ID: {update_id}"
            raise ServiceError("ResourceNotFoundException", message, clusterName=name)
        return update

    def change(self, target: Target, name: str, update: SimulatedUpdate) -> None:
        cluster = self.get(target, name)
        self.put(replace(cluster, updates={**cluster.updates, update.id: update}))

    def snapshot(self, update: SimulatedUpdate) -> Snapshot:
        return take_snapshot(update, self.clock.now())

    def cluster_names(self, target: Target) -> list[str]:
        return sorted(self._clusters.get(target, {}))

    def update_ids(self, target: Target, name: str, resource: Resource | None) -> list[str]:
        updates = self.get(target, name).updates.values()
        return [update.id for update in updates if update.resource == resource]

    def describe(self, cluster: SimulatedCluster) -> dict[str, Any]:
        """EKS's ``Cluster``, as far as it is simulated."""
        return {
            "name": cluster.name,
            "arn": cluster.arn,
            "createdAt": cluster.created_at,
            "version": self.version(cluster),
            "status": cluster.set_status or self._status(cluster),
            "tags": dict(cluster.tags),
            "computeConfig": {"enabled": cluster.auto_mode},
        }

    def describe_update(self, update: SimulatedUpdate) -> dict[str, Any]:
        snapshot = self.snapshot(update)
        described: dict[str, Any] = {
            "id": update.id,
            "status": snapshot.status,
            "type": update.type,
            "params": [asdict(param) for param in update.params],
            "createdAt": update.created_at,
            "errors": [_error(error) for error in snapshot.errors],
        }
        if snapshot.cancellation is not None:
            described["cancellation"] = asdict(snapshot.cancellation)
        return described

    def run_once(
        self, target: Target, token: str | None, params: dict[str, Any], effect: Callable[[], dict[str, Any]]
    ) -> dict[str, Any]:
        """Run an effect at most once per clientRequestToken.

        Two assumptions, undocumented by AWS: the same token returns the first answer; with other parameters
        it is an InvalidParameterException. A refused call is not recorded.
        """
        recorded = self._tokens.get((target, token)) if token else None
        if recorded is not None and recorded.params != params:
            message = "The clientRequestToken was used before with other parameters."
            raise ServiceError("InvalidParameterException", message, clusterName=params["name"])
        if recorded is not None:
            return recorded.answer
        answer = effect()
        if token:
            self._tokens[target, token] = _RecordedAnswer(params, answer)
        return answer

    def is_busy(self, cluster: SimulatedCluster) -> bool:
        """Whether an update of the cluster itself is running."""
        return any(
            update.resource is None and self.snapshot(update).running for update in cluster.updates.values()
        )

    def version(self, cluster: SimulatedCluster) -> str:
        """The version after the updates that succeeded."""
        version = cluster.version
        for update in cluster.updates.values():
            done = update.set_status is None and self.snapshot(update).status == "Successful"
            if done and update.type in (ROLLBACK, "VersionUpdate"):
                version = next((param.value for param in update.params if param.type == "Version"), version)
        return version

    def _status(self, cluster: SimulatedCluster) -> str:
        own = [self.snapshot(update) for update in cluster.updates.values() if update.resource is None]
        updating = any(each.running and each.stage is Stage.CONTROL_PLANE for each in own)
        return "UPDATING" if updating else "ACTIVE"


def hold_at(
    update: SimulatedUpdate,
    *,
    status: str | None,
    cancellation: UpdateCancellation | None,
    errors: tuple[UpdateError, ...],
) -> SimulatedUpdate:
    """Hold the update at a status. InProgress or None returns it to its plan."""
    held = None if status == "InProgress" else status
    return replace(update, set_status=held, set_cancellation=cancellation, errors=errors)


def _error(error: UpdateError) -> dict[str, Any]:
    return {
        "errorCode": error.error_code,
        "errorMessage": error.error_message,
        "resourceIds": list(error.resource_ids),
    }


def _partition(region: str) -> str:
    for prefix, partition in (("cn-", "aws-cn"), ("us-gov-", "aws-us-gov"), ("eusc-", "aws-eusc")):
        if region.startswith(prefix):
            return partition
    return "aws"
