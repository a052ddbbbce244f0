"""Everything the simulated EKS knows, and how it describes it; no I/O, no wire forms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from eksgateway.model import Target, UpdateCancellation, UpdateError
from eksgateway.simulator.clock import SimulatedClock
from eksgateway.simulator.machine import ROLLBACK, Resource, Stage, Update, View, view


class Refusal(Exception):
    """An error of EKS: its code, as in the model, and its members."""

    def __init__(self, code: str, message: str, **members: str) -> None:
        super().__init__(message)
        self.code = code
        self.members = {"message": message, **members}


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster and its updates by id, oldest first. ``set_status`` is said instead of the derived one."""

    target: Target
    name: str
    version: str
    tags: dict[str, str]
    auto_mode: bool
    created_at: datetime
    set_status: str | None = None
    updates: dict[str, Update] = field(default_factory=dict)

    @property
    def arn(self) -> str:
        region = self.target.region
        return f"arn:{_partition(region)}:eks:{region}:{self.target.account_id}:cluster/{self.name}"


@dataclass(frozen=True, slots=True)
class _Remembered:
    """An accepted call with a clientRequestToken, and what was answered."""

    params: dict[str, Any]
    answer: dict[str, Any]


class State:
    """All accounts and regions. Not for several threads at once."""

    def __init__(
        self, clock: SimulatedClock, wall: Callable[[], datetime], new_id: Callable[[], str]
    ) -> None:
        self.clock = clock
        self.wall = wall
        self.new_id = new_id
        self._clusters: dict[Target, dict[str, Cluster]] = {}
        self._tokens: dict[tuple[Target, str], _Remembered] = {}

    def put(self, cluster: Cluster) -> None:
        """Add a cluster, in place of one of the same name."""
        self._clusters.setdefault(cluster.target, {})[cluster.name] = cluster

    def get(self, target: Target, name: str) -> Cluster:
        """The cluster. Raises Refusal."""
        cluster = self._clusters.get(target, {}).get(name)
        if cluster is None:
            message = f"No cluster found for name: {name}."
            raise Refusal("ResourceNotFoundException", message, clusterName=name)
        return cluster

    def get_update(
        self, target: Target, name: str, update_id: str, resource: Resource | None = None
    ) -> Update:
        """The update, if it is the named resource's (without one: the cluster's own). Raises Refusal."""
        update = self.get(target, name).updates.get(update_id)
        if update is None or update.resource != resource:
            message = f"No update found for ID: {update_id}"
            raise Refusal("ResourceNotFoundException", message, clusterName=name)
        return update

    def change(self, target: Target, name: str, update: Update) -> None:
        """Put an update, new or changed, into its cluster."""
        cluster = self.get(target, name)
        self.put(replace(cluster, updates={**cluster.updates, update.id: update}))

    def view(self, update: Update) -> View:
        return view(update, self.clock.now())

    def cluster_names(self, target: Target) -> list[str]:
        return sorted(self._clusters.get(target, {}))

    def update_ids(self, target: Target, name: str, resource: Resource | None) -> list[str]:
        updates = self.get(target, name).updates.values()
        return [update.id for update in updates if update.resource == resource]

    def describe(self, cluster: Cluster) -> dict[str, Any]:
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

    def describe_update(self, update: Update) -> dict[str, Any]:
        """EKS's ``Update``."""
        seen = self.view(update)
        told: dict[str, Any] = {
            "id": update.id,
            "status": seen.status,
            "type": update.type,
            "params": [{"type": param.type, "value": param.value} for param in update.params],
            "createdAt": update.created_at,
            "errors": [_error(error) for error in seen.errors],
        }
        if seen.cancellation is not None:
            told["cancellation"] = {"status": seen.cancellation.status, "reason": seen.cancellation.reason}
        return told

    def once(
        self, target: Target, token: str | None, params: dict[str, Any], effect: Callable[[], dict[str, Any]]
    ) -> dict[str, Any]:
        """An effect at most once per clientRequestToken.

        Two assumptions, as AWS documents neither for these calls: the same token again gives the
        first answer and no second effect; the same token with other parameters is an
        InvalidParameterException. A refused call is not remembered.
        """
        kept = self._tokens.get((target, token)) if token else None
        if kept is not None and kept.params != params:
            message = "The clientRequestToken was used before with other parameters."
            raise Refusal("InvalidParameterException", message, clusterName=params["name"])
        if kept is not None:
            return kept.answer
        answer = effect()
        if token:
            self._tokens[target, token] = _Remembered(params, answer)
        return answer

    def busy(self, cluster: Cluster) -> bool:
        """Whether an update of the cluster itself is running: EKS takes no other one meanwhile."""
        return any(
            update.resource is None and self.view(update).running for update in cluster.updates.values()
        )

    def version(self, cluster: Cluster) -> str:
        """The version after every version update that came to its end here."""
        version = cluster.version
        for update in cluster.updates.values():
            done = update.set_status is None and self.view(update).status == "Successful"
            if done and update.type in (ROLLBACK, "VersionUpdate"):
                version = next((param.value for param in update.params if param.type == "Version"), version)
        return version

    def _status(self, cluster: Cluster) -> str:
        own = [self.view(update) for update in cluster.updates.values() if update.resource is None]
        updating = any(seen.running and seen.stage is Stage.CONTROL_PLANE for seen in own)
        return "UPDATING" if updating else "ACTIVE"


def set_by_hand(
    update: Update,
    *,
    status: str | None,
    cancellation: UpdateCancellation | None,
    errors: tuple[UpdateError, ...],
) -> Update:
    """The update holding still at a status; InProgress, or None, gives it back to its plan."""
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
