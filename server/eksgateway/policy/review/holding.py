"""The grants that cover a policy input, and the denials and freezes that hold on it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from eksgateway.policy.coverage import Entry, names_caller, names_cluster, names_target
from eksgateway.policy.edges import parse_time
from eksgateway.policy.review.cases import Facts, Restriction
from eksgateway.policy.review.restrictions import find_restrictions_in_force
from eksgateway.policy.source import Content


def find_covering_grants(content: Content, document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Those that name the caller and the cluster."""
    facts, is_anywhere = _read_facts(document), document["context"]["stage"] == "target"
    for grant in content["grants"]:
        if (
            names_caller(grant, facts.subject, facts.groups)
            and names_target(grant, facts.account, facts.region)
            and (is_anywhere or names_cluster(grant, facts.cluster))
        ):
            yield grant


def find_holding_restrictions(content: Content, document: dict[str, Any]) -> Iterator[Restriction]:
    """None for an input whose time is no time."""
    context = document["context"]
    facts, at = _read_facts(document), parse_time(context["time"])
    if at is None:
        return
    for each in find_restrictions_in_force(content, at, document["action"]["name"]):
        if _is_judged(each.entry, context["stage"]) and each.holds(facts):
            yield each


def _is_judged(entry: Entry, stage: str) -> bool:
    """Tags and types are known at stage update only, and no cluster at stage target."""
    unknown = {"target": ("clusters", "except_clusters"), "request": ("tags", "update_types")}
    return not any(key in entry for key in unknown.get(stage, ()))


def _read_facts(document: dict[str, Any]) -> Facts:
    subject, resource = document["subject"], document["resource"]["properties"]
    return Facts(
        account=resource["account_id"],
        region=resource["region"],
        cluster=resource.get("cluster", ""),
        subject=subject["id"],
        groups=frozenset(subject["properties"]["groups"]),
        tags=resource.get("tags", {}),
        update_type=resource.get("update", {}).get("type", ""),
    )
