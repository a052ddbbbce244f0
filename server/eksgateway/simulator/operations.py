"""The simulated operations by EKS's names. Parameters and results have EKS's spelling.

Choices that AWS does not document are marked as assumptions.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

from eksgateway.model import Target, UpdateParam
from eksgateway.simulator.cluster_store import ClusterStore, ServiceError
from eksgateway.simulator.lifecycle import NODE_PHASE_S, ROLLBACK, Plan, Resource, SimulatedUpdate, Stage

Operation = Callable[[ClusterStore, Target, dict[str, Any]], dict[str, Any]]

_PAGE_SIZE: Final = 100  # EKS's greatest and default page size


def cancel_update(store: ClusterStore, target: Target, params: dict[str, Any]) -> dict[str, Any]:
    name, update_id, token = params["name"], params["updateId"], params.get("clientRequestToken")
    return store.run_once(target, token, params, lambda: {"update": _cancel(store, target, name, update_id)})


def describe_cluster(store: ClusterStore, target: Target, params: dict[str, Any]) -> dict[str, Any]:
    return {"cluster": store.describe(store.get(target, params["name"]))}


def describe_update(store: ClusterStore, target: Target, params: dict[str, Any]) -> dict[str, Any]:
    update = store.get_update(target, params["name"], params["updateId"], _resource(params))
    return {"update": store.describe_update(update)}


def list_clusters(store: ClusterStore, target: Target, params: dict[str, Any]) -> dict[str, Any]:
    return _page("clusters", store.cluster_names(target), params)


def list_updates(store: ClusterStore, target: Target, params: dict[str, Any]) -> dict[str, Any]:
    return _page("updateIds", store.update_ids(target, params["name"], _resource(params)), params)


def update_cluster_version(store: ClusterStore, target: Target, params: dict[str, Any]) -> dict[str, Any]:
    token = params.get("clientRequestToken")
    return store.run_once(target, token, params, lambda: {"update": _start(store, target, params)})


BY_NAME: Final[dict[str, Operation]] = {
    "CancelUpdate": cancel_update,
    "DescribeCluster": describe_cluster,
    "DescribeUpdate": describe_update,
    "ListClusters": list_clusters,
    "ListUpdates": list_updates,
    "UpdateClusterVersion": update_cluster_version,
}


def _cancel(store: ClusterStore, target: Target, name: str, update_id: str) -> dict[str, Any]:
    cluster = store.get(target, name)
    # CancelUpdate does not find updates of nodegroups, add-ons and capabilities (assumption).
    update = store.get_update(target, name, update_id)
    if update.type != ROLLBACK or not cluster.auto_mode:
        message = f"Only a {ROLLBACK} on EKS Auto Mode can be cancelled; {update_id} is not one."
        raise ServiceError("InvalidRequestException", message, clusterName=name)
    snapshot = store.snapshot(update)
    if snapshot.stage is Stage.CONTROL_PLANE:
        message = f"Update {update_id} cannot be cancelled: the control plane rollback has already begun."
        raise ServiceError(update.plan.refusal, message, clusterName=name)
    # A second cancel with another token while the first is in progress: InvalidStateException (assumption).
    pending = snapshot.cancellation is not None and snapshot.cancellation.status == "InProgress"
    if pending or snapshot.status != "InProgress":
        status = "Cancelling" if pending else snapshot.status
        message = f"Update {update_id} cannot be cancelled: it is {status}."
        raise ServiceError("InvalidStateException", message, clusterName=name)
    accepted = replace(update, cancel_requested=store.clock.now(), set_cancellation=None)
    store.change(target, name, accepted)
    return store.describe_update(accepted)


def _start(store: ClusterStore, target: Target, params: dict[str, Any]) -> dict[str, Any]:
    """Start an upgrade or a rollback by one minor version, unless another update is running."""
    name, version = params["name"], params["version"]
    minutes = params.get("rollbackConfig", {}).get("timeoutMinutes", 720)
    cluster = store.get(target, name)
    if store.is_busy(cluster):
        message = f"Cluster {name} already has an update in progress."
        raise ServiceError("ResourceInUseException", message, clusterName=name)
    step = _minor(version) - _minor(store.version(cluster))
    if abs(step) != 1 or not 120 <= minutes <= 10080:
        message = "The version must be one minor version away, and timeoutMinutes from 120 to 10080."
        raise ServiceError("InvalidParameterException", message, clusterName=name)
    rolls_nodes = step < 0 and cluster.auto_mode
    update = SimulatedUpdate(
        id=str(uuid4()),
        type=ROLLBACK if step < 0 else "VersionUpdate",
        params=(UpdateParam("Version", version),),
        errors=(),
        created_at=datetime.now(UTC),
        started=store.clock.now(),
        plan=Plan(node_phase_s=NODE_PHASE_S if rolls_nodes else 0, timeout_s=minutes * 60),
    )
    store.change(target, name, update)
    return store.describe_update(update)


def _minor(version: str) -> int:
    major, _, minor = version.partition(".")
    if major != "1" or not minor.isdecimal():
        raise ServiceError(
            "InvalidParameterException", f"{version!r} is not a Kubernetes version such as 1.34."
        )
    return int(minor)


def _resource(params: dict[str, Any]) -> Resource | None:
    for kind in ("nodegroup", "addon", "capability"):
        if f"{kind}Name" in params:
            return Resource(kind, params[f"{kind}Name"])
    return None


def _page(member: str, items: list[str], params: dict[str, Any]) -> dict[str, Any]:
    scope = [member, params.get("name")]  # a token is valid only for the same list
    start = _offset(params["nextToken"], scope) if "nextToken" in params else 0
    end = start + params.get("maxResults", _PAGE_SIZE)
    page: dict[str, Any] = {member: items[start:end]}
    if end < len(items):
        page["nextToken"] = base64.urlsafe_b64encode(json.dumps([*scope, end]).encode()).decode()
    return page


def _offset(token: str, scope: list[str | None]) -> int:
    try:
        *bound, start = json.loads(base64.urlsafe_b64decode(token))
    except (ValueError, TypeError):
        bound, start = [], 0
    if bound != scope or type(start) is not int or start < 0:
        raise ServiceError("InvalidParameterException", "The nextToken is not one of this list.")
    return start
