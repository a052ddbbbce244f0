"""The simulated operations by EKS's names: parameters in, result out, in EKS's spelling.

Where AWS documents nothing, the choice made here is marked as an assumption.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from eksgateway.model import Target, UpdateParam
from eksgateway.simulator.machine import NODE_PHASE_S, ROLLBACK, Plan, Resource, Stage, Update
from eksgateway.simulator.state import Refusal, State

Operation = Callable[[State, Target, dict[str, Any]], dict[str, Any]]

PAGE = 100  # EKS's greatest and default page


def cancel_update(state: State, target: Target, params: dict[str, Any]) -> dict[str, Any]:
    name, update_id, token = params["name"], params["updateId"], params.get("clientRequestToken")
    return state.once(target, token, params, lambda: {"update": _cancel(state, target, name, update_id)})


def describe_cluster(state: State, target: Target, params: dict[str, Any]) -> dict[str, Any]:
    return {"cluster": state.describe(state.get(target, params["name"]))}


def describe_update(state: State, target: Target, params: dict[str, Any]) -> dict[str, Any]:
    update = state.get_update(target, params["name"], params["updateId"], _resource(params))
    return {"update": state.describe_update(update)}


def list_clusters(state: State, target: Target, params: dict[str, Any]) -> dict[str, Any]:
    return _page("clusters", state.cluster_names(target), params)


def list_updates(state: State, target: Target, params: dict[str, Any]) -> dict[str, Any]:
    return _page("updateIds", state.update_ids(target, params["name"], _resource(params)), params)


def update_cluster_version(state: State, target: Target, params: dict[str, Any]) -> dict[str, Any]:
    token = params.get("clientRequestToken")
    return state.once(target, token, params, lambda: {"update": _start(state, target, params)})


BY_NAME: dict[str, Operation] = {
    "CancelUpdate": cancel_update,
    "DescribeCluster": describe_cluster,
    "DescribeUpdate": describe_update,
    "ListClusters": list_clusters,
    "ListUpdates": list_updates,
    "UpdateClusterVersion": update_cluster_version,
}


def _cancel(state: State, target: Target, name: str, update_id: str) -> dict[str, Any]:
    """Accept a cancellation, or say why not; the update as it is then."""
    cluster = state.get(target, name)
    # Nodegroup, add-on and capability updates are out of CancelUpdate's reach: not found (assumption).
    update = state.get_update(target, name, update_id)
    if update.type != ROLLBACK or not cluster.auto_mode:
        message = f"Only a {ROLLBACK} on EKS Auto Mode can be cancelled; {update_id} is none."
        raise Refusal("InvalidRequestException", message, clusterName=name)
    seen = state.view(update)
    if seen.stage is Stage.CONTROL_PLANE:
        message = f"Update {update_id} cannot be cancelled: the control plane rollback has already begun."
        raise Refusal(update.plan.refusal, message, clusterName=name)
    # A second cancel with another token, while the first is at work, is a matter of state (assumption).
    pending = seen.cancellation is not None and seen.cancellation.status == "InProgress"
    if pending or seen.status != "InProgress":
        message = f"Update {update_id} cannot be cancelled: it is {'Cancelling' if pending else seen.status}."
        raise Refusal("InvalidStateException", message, clusterName=name)
    accepted = replace(update, cancel_asked=state.clock.now(), set_cancellation=None)
    state.change(target, name, accepted)
    return state.describe_update(accepted)


def _start(state: State, target: Target, params: dict[str, Any]) -> dict[str, Any]:
    """Begin an upgrade or a rollback by one minor version, unless another update is running."""
    name, version = params["name"], params["version"]
    minutes = params.get("rollbackConfig", {}).get("timeoutMinutes", 720)
    cluster = state.get(target, name)
    if state.busy(cluster):
        message = f"Cluster {name} already has an update in progress."
        raise Refusal("ResourceInUseException", message, clusterName=name)
    step = _minor(version) - _minor(state.version(cluster))
    if abs(step) != 1 or not 120 <= minutes <= 10080:
        message = "The version must be one minor version away, and timeoutMinutes from 120 to 10080."
        raise Refusal("InvalidParameterException", message, clusterName=name)
    rolls_nodes = step < 0 and cluster.auto_mode
    update = Update(
        id=state.new_id(),
        type=ROLLBACK if step < 0 else "VersionUpdate",
        params=(UpdateParam("Version", version),),
        errors=(),
        created_at=state.wall(),
        started=state.clock.now(),
        plan=Plan(node_phase_s=NODE_PHASE_S if rolls_nodes else 0, timeout_s=minutes * 60),
    )
    state.change(target, name, update)
    return state.describe_update(update)


def _minor(version: str) -> int:
    """The minor version; Kubernetes has had the major version 1 only."""
    major, _, minor = version.partition(".")
    if major != "1" or not minor.isdecimal():
        raise Refusal("InvalidParameterException", f"{version!r} is not a Kubernetes version such as 1.34.")
    return int(minor)


def _resource(params: dict[str, Any]) -> Resource | None:
    """The nodegroup, add-on or capability that is asked about, if any."""
    for kind in ("nodegroup", "addon", "capability"):
        if f"{kind}Name" in params:
            return Resource(kind, params[f"{kind}Name"])
    return None


def _page(member: str, items: list[str], params: dict[str, Any]) -> dict[str, Any]:
    """One page; its token is bound to the list it came from."""
    scope = [member, params.get("name")]
    start = 0
    if "nextToken" in params:
        start = _offset(params["nextToken"], scope)
    end = start + params.get("maxResults", PAGE)
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
        raise Refusal("InvalidParameterException", "The nextToken is not one of this list.")
    return start
