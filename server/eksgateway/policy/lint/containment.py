"""Whether a grant allows all that another one allows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from eksgateway.policy.compiler.conditions import parse_duration
from eksgateway.policy.compiler.windows import merge_windows
from eksgateway.policy.coverage import Entry
from eksgateway.policy.review.words import FREE, is_covered, overlap


def has_callers_and_place(wider: Entry, grant: Entry) -> bool:
    return (
        _has_all(wider["accounts"], grant["accounts"])
        and _has_all(wider["regions"], grant["regions"])
        and all(_names_group(wider, group) for group in grant.get("groups", ()))
        and _covers(wider.get("subjects", ()), grant.get("subjects", ()))
        and _covers_clusters(wider, grant)
    )


def member_of(group: str) -> str:
    """A word for the callers in a group: each is a caller of the group's issuer."""
    issuer = group.partition(":")[0]
    return f"jwt:{issuer.replace('*', FREE)}:{FREE}"


def _names_group(wider: Entry, group: str) -> bool:
    return is_covered(group, wider.get("groups", ())) or is_covered(
        member_of(group), wider.get("subjects", ())
    )


def has_conditions(wider: Entry, grant: Entry, now: str) -> bool:
    """Whether ``wider`` holds from now on wherever the grant's conditions hold, but for those of cancels."""
    return (
        _covers_time(wider, grant, now)
        and ("via" not in wider or _covers(wider["via"], grant.get("via", ("**",))))
        and _covers_each(wider.get("claims", {}), grant.get("claims", {}))
        and all(
            set(grant.get("tags", {}).get(key, ("",))) <= {*values} for key, values in _items(wider, "tags")
        )
        and all(grant.get("group_tags", {}).get(key) == value for key, value in _items(wider, "group_tags"))
        and ("versions" not in wider or _covers(wider["versions"], grant.get("versions", ("**",))))
        and parse_duration(wider.get("older_than", "0s")) <= parse_duration(grant.get("older_than", "0s"))
    )


def find_missing_requirements(wider: Entry, grant: Entry) -> list[str]:
    """The keys of the grant that ask a cancel for what ``wider`` does not ask for."""
    missing = []
    if not set(grant.get("require", ())) <= requirements_of(wider):
        missing.append("require")
    asked = wider.get("ticket_patterns")
    if "ticket_patterns" in grant and (asked is None or not set(asked) <= set(grant["ticket_patterns"])):
        missing.append("ticket_patterns")
    return missing


def requirements_of(grant: Entry) -> set[str]:
    return {*grant.get("require", ()), *(["ticket"] if "ticket_patterns" in grant else [])}


def _covers_time(wider: Entry, grant: Entry, now: str) -> bool:
    if "windows" in wider and (
        "windows" not in grant or merge_windows(wider["windows"]) != merge_windows(grant["windows"])
    ):
        return False
    begins_before = "from" not in wider or str(wider["from"]) <= max(str(grant.get("from", "")), now)
    return begins_before and ends_later(wider, grant)


def ends_later(wider: Entry, grant: Entry) -> bool:
    """Not before the grant does."""
    return "until" not in wider or ("until" in grant and str(grant["until"]) <= str(wider["until"]))


def _covers_clusters(wider: Entry, grant: Entry) -> bool:
    excluded = grant.get("except_clusters", ())
    return _covers(wider["clusters"], grant["clusters"]) and not any(
        overlap(pattern, cluster)
        for pattern in wider.get("except_clusters", ())
        if not is_covered(pattern, excluded)
        for cluster in grant["clusters"]
    )


def _covers(wider: Sequence[str], patterns: Iterable[str]) -> bool:
    return all(is_covered(pattern, wider) for pattern in patterns)


def _covers_each(wider: Mapping[str, Sequence[str]], narrower: Mapping[str, Sequence[str]]) -> bool:
    return all(_covers(patterns, narrower.get(name, ("**",))) for name, patterns in wider.items())


def _has_all(wider: Sequence[str], listed: Iterable[str]) -> bool:
    return "*" in wider or all(each in wider for each in listed)


def _items(grant: Entry, key: str) -> Iterable[tuple[str, Any]]:
    values: Mapping[str, Any] = grant.get(key, {})
    return values.items()
