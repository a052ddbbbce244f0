"""Values that no cluster and no update has, and keys without an effect."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import lru_cache, partial
from typing import Final

from eksgateway.model import CLUSTER_NAME_PATTERN
from eksgateway.policy.coverage import Entry
from eksgateway.policy.lint.finding import Finding, Named, entries_of
from eksgateway.policy.review.conditions import OF_CANCELS, OF_FACTS
from eksgateway.settings import CLAIM_NAME_PATTERN

_CLUSTER: Final = re.compile(CLUSTER_NAME_PATTERN)
_CLUSTER_PARTS: Final = re.compile(r"[A-Za-z0-9_-]*")
_CLAIM: Final = re.compile(CLAIM_NAME_PATTERN)
_VERSION: Final = re.compile(r"[0-9]+\.[0-9]+")
_VERSION_PARTS: Final = re.compile(r"[0-9]*(\.[0-9]*)?")


def find(content: Mapping[str, Sequence[Entry]], update_types: Collection[str]) -> Iterator[Finding]:
    """``update_types``: those that EKS has."""
    judge_type = partial(_why_no_type, known=update_types)
    for each in entries_of(content):
        yield from each.judge_items("impossible-cluster", ["clusters", "except_clusters"], _why_no_cluster)
        yield from each.judge_items("unknown-update-type", ["update_types"], judge_type)
        yield from each.judge_items("impossible-version", ["versions"], _why_no_version)
        yield from _find_impossible_tags(each)
        for claim in each.entry.get("claims", {}):
            if not _CLAIM.fullmatch(claim):
                text = "no caller has it: in settings, claims have names of letters, digits, `_` and `-`"
                yield each.make_finding("unknown-claim", f"claims.{claim}", text)
        if each.kind == "grant":
            yield from _find_without_effect(each)


@lru_cache(4096)
def _why_no_cluster(pattern: str) -> str:
    if "*" not in pattern and _CLUSTER.fullmatch(pattern):
        return ""
    if "*" in pattern and _CLUSTER_PARTS.fullmatch(pattern.replace("*", "")):
        return ""
    return f"`{pattern}` matches no cluster: names have letters, digits, `-` and `_`, at most 100"


def _why_no_type(name: str, known: Collection[str]) -> str:
    if name in known:
        return ""
    if "*" in name:
        return f"`{name}` matches no update: types are exact; list those that are meant"
    near = get_close_matches(name, known, n=1)
    hint = f"is `{near[0]}` meant?" if near else f"the known ones are {', '.join(sorted(known))}"
    return f"`{name}` is no update type of EKS that is known here: {hint}"


@lru_cache(4096)
def _why_no_version(pattern: str) -> str:
    if _VERSION.fullmatch(pattern):
        return ""
    if "*" in pattern and _VERSION_PARTS.fullmatch(pattern.replace("*", "")):
        return ""
    return f"`{pattern}` matches no version: clusters have versions like 1.34"


def _find_impossible_tags(each: Named) -> Iterator[Finding]:
    for key, values in each.entry.get("tags", {}).items():
        for value in values:
            if "*" in value:
                text = f"`{value}` matches no tag: values are exact, and tags of AWS have no `*`"
                yield each.make_finding("impossible-tag", f"tags.{key}", text)


def _find_without_effect(each: Named) -> Iterator[Finding]:
    actions = each.entry["actions"]
    for key in OF_CANCELS if "cancel" not in actions else ():
        if key in each.entry:
            yield each.make_finding(
                "no-effect", key, "has no effect: it is about cancels, and `actions` lacks cancel"
            )
    for key in OF_FACTS if set(actions) == {"list"} else ():
        if key in each.entry:
            yield each.make_finding("no-effect", key, "has no effect: `list` is decided before EKS is read")
