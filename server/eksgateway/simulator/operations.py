"""The simulated operations by EKS's names: parameters in, result out, in EKS's spelling."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

from eksgateway.model import Target
from eksgateway.simulator.machine import Resource
from eksgateway.simulator.state import Refusal, State

Operation = Callable[[State, Target, dict[str, Any]], dict[str, Any]]

PAGE = 100  # EKS's greatest and default page


def cancel_update(state: State, target: Target, params: dict[str, Any]) -> dict[str, Any]:
    name, update_id, token = params["name"], params["updateId"], params.get("clientRequestToken")
    return state.once(target, token, params, lambda: {"update": state.cancel(target, name, update_id)})


def describe_cluster(state: State, target: Target, params: dict[str, Any]) -> dict[str, Any]:
    return {"cluster": state.describe_cluster(target, params["name"])}


def describe_update(state: State, target: Target, params: dict[str, Any]) -> dict[str, Any]:
    update = state.get_update(target, params["name"], params["updateId"], _resource(params))
    return {"update": state.describe_update(update)}


def list_clusters(state: State, target: Target, params: dict[str, Any]) -> dict[str, Any]:
    return _page("clusters", state.cluster_names(target), params)


def list_updates(state: State, target: Target, params: dict[str, Any]) -> dict[str, Any]:
    return _page("updateIds", state.update_ids(target, params["name"], _resource(params)), params)


def update_cluster_version(state: State, target: Target, params: dict[str, Any]) -> dict[str, Any]:
    name = params["name"]
    version = params.get("version", "")
    minutes = params.get("rollbackConfig", {}).get("timeoutMinutes", 720)
    if not 120 <= minutes <= 10080:
        message = f"timeoutMinutes is from 120 to 10080, not {minutes}."
        raise Refusal("InvalidParameterException", message, clusterName=name)
    return state.once(
        target,
        params.get("clientRequestToken"),
        params,
        lambda: {"update": state.start_version_update(target, name, version, minutes)},
    )


BY_NAME: dict[str, Operation] = {
    "CancelUpdate": cancel_update,
    "DescribeCluster": describe_cluster,
    "DescribeUpdate": describe_update,
    "ListClusters": list_clusters,
    "ListUpdates": list_updates,
    "UpdateClusterVersion": update_cluster_version,
}


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
        start = _start(params["nextToken"], scope)
    end = start + params.get("maxResults", PAGE)
    page: dict[str, Any] = {member: items[start:end]}
    if end < len(items):
        page["nextToken"] = base64.urlsafe_b64encode(json.dumps([*scope, end]).encode()).decode()
    return page


def _start(token: str, scope: list[str | None]) -> int:
    try:
        *bound, start = json.loads(base64.urlsafe_b64decode(token))
    except (ValueError, TypeError):
        bound, start = [], 0
    if bound != scope or type(start) is not int or start < 0:
        raise Refusal("InvalidParameterException", "The nextToken is not one of this list.")
    return start
