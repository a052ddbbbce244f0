"""Whether an entry of the policy data names a target or a caller, as the Rego finds it in the index."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from eksgateway.policy.patterns import matches_any

Entry: TypeAlias = Mapping[str, Any]  # a grant, denial or freeze, with its sets resolved


def names_target(entry: Entry, account: str, region: str) -> bool:
    """Whether the entry's accounts and regions have these; an entry without them has all."""
    return names_account(entry, account) and names_region(entry, region)


def names_account(entry: Entry, account: str) -> bool:
    return _has(entry.get("accounts"), account)


def names_region(entry: Entry, region: str) -> bool:
    return _has(entry.get("regions"), region)


def names_cluster(entry: Entry, cluster: str) -> bool:
    """An entry without clusters names all."""
    named = "clusters" not in entry or matches_any(entry["clusters"], cluster)
    return named and not matches_any(entry.get("except_clusters", ()), cluster)


def names_caller(entry: Entry, subject: str, groups: Iterable[str]) -> bool:
    """By its subjects or groups; an entry without them names none."""
    return _lists_caller(entry.get("subjects", ()), entry.get("groups", ()), subject, groups)


def spares_caller(freeze: Entry, subject: str, groups: Iterable[str]) -> bool:
    return _lists_caller(freeze.get("except_subjects", ()), freeze.get("except_groups", ()), subject, groups)


def _lists_caller(
    subjects: Sequence[str], named_groups: Sequence[str], subject: str, groups: Iterable[str]
) -> bool:
    return matches_any(subjects, subject) or any(matches_any(named_groups, group) for group in groups)


def _has(listed: Sequence[str] | None, value: str) -> bool:
    return listed is None or "*" in listed or value in listed
