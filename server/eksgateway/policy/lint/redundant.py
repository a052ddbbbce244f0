"""Grants that another grant makes pointless."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from functools import cache, cached_property
from typing import Final

from eksgateway.policy.coverage import Entry
from eksgateway.policy.lint.caller_index import callers_of, find_naming, index_callers
from eksgateway.policy.lint.containment import (
    find_missing_requirements,
    has_callers_and_place,
    has_conditions,
)
from eksgateway.policy.lint.finding import Finding, Named, quote
from eksgateway.policy.lint.pattern_index import index_clusters
from eksgateway.policy.question import utc_seconds
from eksgateway.policy.review.times import is_over
from eksgateway.policy.review.words import word_of

_MAX_STEPS: Final = 2_000_000  # about a second
_STEPS_OF_COMPARISON: Final = 20
_MAX_NAMES: Final = 4  # of callers, and of clusters, by which grants to compare are found


def find(content: Mapping[str, Sequence[Entry]], at: datetime) -> Iterator[Finding]:
    yield from _Grants(content["grants"], at).compare()


class _Numbers:
    """The numbers of the grants that name something, in sets that may overlap."""

    def __init__(self, sets: Iterable[AbstractSet[int]]) -> None:
        self._sets = [*sets]
        self.size = sum(map(len, self._sets))

    @cached_property
    def members(self) -> list[int]:
        return sorted(set().union(*self._sets))

    def has(self, number: int) -> bool:
        return any(number in each for each in self._sets)


class _Grants:
    """Compares each grant with those that name its first callers and its first clusters."""

    def __init__(self, grants: Sequence[Entry], at: datetime) -> None:
        self._grants = [each for each in grants if not is_over(each, at)]
        self._now = utc_seconds(at)
        self._steps = 0
        callers, clusters = index_callers(self._grants), index_clusters(self._grants)
        self._by_caller = cache(lambda caller: _Numbers(find_naming(callers, caller)))
        self._by_cluster = cache(lambda pattern: _Numbers(clusters.find(word_of(pattern))))

    def compare(self) -> Iterator[Finding]:
        for number, grant in enumerate(self._grants):
            if finding := self._find_wider(number, grant):
                yield finding
            if self._steps > _MAX_STEPS:
                text = (
                    "later grants were not compared with others: too many name the same callers and clusters"
                )
                yield Named("grant", grant).make_finding("not-compared", "", text)
                return

    def _find_wider(self, number: int, grant: Entry) -> Finding | None:
        """The first finding about the grants that name each of some callers and clusters of the grant."""
        named = [self._by_caller(each) for each in callers_of(grant)[:_MAX_NAMES]]
        named += [self._by_cluster(each) for each in grant["clusters"][:_MAX_NAMES]]
        fewest = min(named, key=lambda each: each.size)
        if "members" not in vars(fewest):
            self._steps += fewest.size // 10  # to sort them, once
        for other in fewest.members:
            self._steps += 1
            if other != number and all(each.has(other) for each in named):
                self._steps += _STEPS_OF_COMPARISON + _count_pairs(grant, self._grants[other])
                if finding := self._compare(number, other):
                    return finding
            if self._steps > _MAX_STEPS:
                break
        return None

    def _compare(self, number: int, other: int) -> Finding | None:
        grant, wider = self._grants[number], self._grants[other]
        if not set(grant["actions"]) & set(wider["actions"]):
            return None
        if not has_conditions(wider, grant, self._now) or not has_callers_and_place(wider, grant):
            return None
        named, name = Named("grant", grant), wider["id"]
        missing = find_missing_requirements(wider, grant)
        if "cancel" in grant["actions"] and "cancel" in wider["actions"] and missing:
            types = [each for each in grant["update_types"] if each in wider["update_types"]]
            if types:
                text = f"has no effect for {quote(types)}: grant {name} allows the same cancels without it"
                return named.make_finding("undone-requirement", missing[0], text)
        elif self._is_contained(grant, wider) and (other < number or not self._contains(grant, wider)):
            return named.make_finding(
                "redundant", "", f"adds nothing: grant {name} allows all that it allows"
            )
        return None

    def _contains(self, wider: Entry, grant: Entry) -> bool:
        return (
            has_conditions(wider, grant, self._now)
            and has_callers_and_place(wider, grant)
            and self._is_contained(grant, wider)
        )

    def _is_contained(self, grant: Entry, wider: Entry) -> bool:
        """By actions and by what cancels must carry."""
        if not set(grant["actions"]) <= set(wider["actions"]):
            return False
        return "cancel" not in grant["actions"] or (
            set(grant["update_types"]) <= set(wider["update_types"])
            and not find_missing_requirements(grant, wider)
        )


def _count_pairs(grant: Entry, wider: Entry) -> int:
    """About how often a comparison matches a pattern of one with a pattern of the other."""

    def count(entry: Entry, *keys: str) -> int:
        return sum(len(entry.get(key, ())) for key in keys)

    return sum(
        count(grant, *keys) * count(wider, *keys) // 2
        for keys in (("clusters", "except_clusters"), ("groups", "subjects"))
    )
