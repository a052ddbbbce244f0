"""The rights of one caller at a time, and on which clusters it has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from eksgateway.policy.coverage import Entry, names_caller
from eksgateway.policy.patterns import matches_any
from eksgateway.policy.review.cases import (
    Case,
    Facts,
    Opening,
    Restriction,
    find_opening,
    find_partial,
)
from eksgateway.policy.review.grant_cases import cases_of, cut_groups
from eksgateway.policy.review.restrictions import find_restrictions_in_force
from eksgateway.policy.review.times import why_not_in_force
from eksgateway.policy.review.words import overlap


@dataclass(frozen=True, slots=True)
class ReviewedCaller:
    """``via`` and claims that are not given are unknown, and count as fitting."""

    subject: str
    groups: tuple[str, ...] = ()
    claims: Mapping[str, Sequence[str]] | None = None
    via: str = ""


@dataclass(frozen=True, slots=True)
class Permission:
    """Actions of a grant on some of its clusters, as they are written there.

    ``examples`` has an allowed request for each action and cluster, and is empty if there is none:
    ``held_by`` has the denials and freezes that leave none (without any, the grant's own conditions do).
    ``around`` has those that hold on a part of the requests.
    """

    grant: Entry
    actions: tuple[str, ...]
    clusters: tuple[str, ...]
    held_by: tuple[str, ...] = ()
    around: tuple[str, ...] = ()
    examples: Mapping[tuple[str, str], Facts] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Permissions:
    """``not_now``: grants of the caller that do not count at the time, each with the reason."""

    permissions: tuple[Permission, ...]
    not_now: tuple[tuple[Entry, str], ...]
    restrictions: tuple[Restriction, ...]  # in force for the caller, where it has permissions


def find_permissions(content: dict[str, Any], caller: ReviewedCaller, at: datetime) -> Permissions:
    restrictions = [
        each
        for each in find_restrictions_in_force(content, at, "cancel")
        if each.concerns(caller.subject, caller.groups)
    ]
    permissions: list[Permission] = []
    not_now: list[tuple[Entry, str]] = []
    for grant in content["grants"]:
        if not names_caller(grant, caller.subject, caller.groups):
            continue
        if reason := why_not_in_force(grant, at) or _why_unfit(grant, caller):
            not_now.append((grant, reason))
        else:
            permissions += _permissions_of(grant, caller, restrictions)
    grants = {str(each.grant["id"]): each.grant for each in permissions}
    touching = (each for each in restrictions if any(_touches(each, grant) for grant in grants.values()))
    return Permissions(tuple(permissions), tuple(not_now), tuple(touching))


def _touches(restriction: Restriction, grant: Entry) -> bool:
    entry = restriction.entry
    return (
        (not restriction.is_freeze or "cancel" in grant["actions"])
        and _share(entry.get("accounts", ["*"]), grant["accounts"])
        and _share(entry.get("regions", ["*"]), grant["regions"])
        and any(overlap(one, other) for one in entry.get("clusters", ["**"]) for other in grant["clusters"])
    )


def _share(some: Sequence[str], others: Sequence[str]) -> bool:
    return "*" in some or "*" in others or not set(some).isdisjoint(others)


def _why_unfit(grant: Entry, caller: ReviewedCaller) -> str:
    is_spiffe = caller.subject.startswith("spiffe:")
    if "via" in grant:
        if is_spiffe:
            return "asks for a token over a connection of the mesh"
        if caller.via and not matches_any(grant["via"], caller.via):
            return f"asks for a connection from {' or '.join(grant['via'])}"
    for name, patterns in grant.get("claims", {}).items():
        given = () if is_spiffe else (caller.claims or {}).get(name)
        if given is not None and not any(matches_any(patterns, value) for value in given):
            return f"asks for the token's claim {name} to be {' or '.join(patterns)}"
    for pattern in grant.get("group_tags", {}).values():
        if not cut_groups(pattern, caller.groups) and "list" not in grant["actions"]:  # decided without tags
            return f"asks for a cluster of a group {pattern}"
    return ""


def _permissions_of(
    grant: Entry, caller: ReviewedCaller, restrictions: Sequence[Restriction]
) -> Iterator[Permission]:
    case = Case("", "", (), (caller.subject,), frozenset(caller.groups))
    found: dict[tuple[bool, tuple[str, ...]], dict[tuple[str, str], Opening | tuple[str, ...]]] = {}
    for action in grant["actions"]:
        holding = [each for each in restrictions if action == "cancel" or not each.is_freeze]
        for cluster in grant["clusters"]:
            outcome = find_opening(cases_of(grant, action, case, (cluster,), holding), holding)
            is_open = isinstance(outcome, Opening)
            ids = find_partial(grant, case, outcome, holding) if isinstance(outcome, Opening) else outcome
            found.setdefault((is_open, ids), {})[action, cluster] = outcome
    for (is_open, ids), outcomes in found.items():
        yield from _merge(grant, outcomes, is_open=is_open, ids=ids)


def _merge(
    grant: Entry,
    outcomes: dict[tuple[str, str], Opening | tuple[str, ...]],
    *,
    is_open: bool,
    ids: tuple[str, ...],
) -> Iterator[Permission]:
    """Actions with the same clusters go together."""
    clusters: dict[str, tuple[str, ...]] = {}
    for action, cluster in outcomes:
        clusters[action] = (*clusters.get(action, ()), cluster)
    for together in dict.fromkeys(clusters.values()):
        actions = tuple(action for action, named in clusters.items() if named == together)
        examples = {
            key: outcome.facts
            for key, outcome in outcomes.items()
            if isinstance(outcome, Opening) and key[0] in actions
        }
        if is_open:
            yield Permission(grant, actions, together, around=ids, examples=examples)
        else:
            yield Permission(grant, actions, together, held_by=ids)
