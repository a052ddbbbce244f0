"""Grants that another grant or a denial makes pointless."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Final, TypeAlias

from eksgateway.policy.lint.containment import (
    ends_later,
    has_callers_and_place,
    has_conditions,
    member_of,
    missing_requirements,
)
from eksgateway.policy.lint.finding import Entry, Finding, Named, quote
from eksgateway.policy.lint.pattern_index import PatternIndex
from eksgateway.policy.question import utc_seconds
from eksgateway.policy.review.cases import Case, Restriction, find_opening
from eksgateway.policy.review.grant_cases import cases_of
from eksgateway.policy.review.times import is_over, why_not_in_force
from eksgateway.policy.review.words import word_of

_MAX_COMPARISONS: Final = 300_000  # about a second

_Caller: TypeAlias = tuple[str, str]  # subjects or groups, and the pattern
_Callers: TypeAlias = dict[str, PatternIndex[int]]  # numbers of entries


def find(content: Mapping[str, Sequence[Entry]], at: datetime) -> Iterator[Finding]:
    yield from _Grants(content["grants"], at).compare()
    yield from _hidden(content, at)


class _Grants:
    """Compares each grant with those that name its first caller and its first cluster."""

    def __init__(self, grants: Sequence[Entry], at: datetime) -> None:
        self._grants = [each for each in grants if not is_over(each, at)]
        self._now = utc_seconds(at)
        self._callers = _index_callers(self._grants)
        self._clusters: PatternIndex[int] = PatternIndex()
        for number, grant in enumerate(self._grants):
            for pattern in grant["clusters"]:
                self._clusters.add(pattern, number)
        self._by_caller = cache(lambda caller: frozenset(_find_naming(self._callers, caller)))
        self._by_cluster = cache(lambda word: frozenset(self._clusters.find(word)))

    def compare(self) -> Iterator[Finding]:
        comparisons = 0
        for number, grant in enumerate(self._grants):
            others = self._candidates(grant)
            comparisons += len(others)
            if comparisons > _MAX_COMPARISONS:
                text = "this and later grants were not compared with others: too many name the same callers"
                yield Named("grant", grant).finding("not-compared", "", f"{text} and clusters")
                return
            for other in sorted(others - {number}):
                if finding := self._compare(number, other):
                    yield finding
                    break

    def _candidates(self, grant: Entry) -> frozenset[int]:
        named = self._by_caller(_callers_of(grant)[0]), self._by_cluster(word_of(grant["clusters"][0]))
        fewer, more = sorted(named, key=len)
        return fewer & more

    def _compare(self, number: int, other: int) -> Finding | None:
        grant, wider = self._grants[number], self._grants[other]
        if not set(grant["actions"]) & set(wider["actions"]):
            return None
        if not has_conditions(wider, grant, self._now) or not has_callers_and_place(wider, grant):
            return None
        named, name = Named("grant", grant), wider["id"]
        missing = missing_requirements(wider, grant)
        if "cancel" in grant["actions"] and "cancel" in wider["actions"] and missing:
            types = [each for each in grant["update_types"] if each in wider["update_types"]]
            if types:
                text = f"has no effect for {quote(types)}: grant {name} allows the same cancels without it"
                return named.finding("undone-requirement", missing[0], text)
        elif self._is_contained(grant, wider) and (other < number or not self._contains(grant, wider)):
            return named.finding("redundant", "", f"adds nothing: grant {name} allows all that it allows")
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
            and not missing_requirements(grant, wider)
        )


def _hidden(content: Mapping[str, Sequence[Entry]], at: datetime) -> Iterator[Finding]:
    """Grants that denials leave nothing of, for as long as they last."""
    denials = content["denials"]
    callers = _index_callers(denials)
    for grant in content["grants"]:
        named = [{*_find_naming(callers, caller)} for caller in _callers_of(grant)]
        if not all(named) or is_over(grant, at):
            continue
        restrictions = [
            Restriction(denials[number], is_freeze=False)
            for number in sorted(set().union(*named))
            if not why_not_in_force(denials[number], at) and ends_later(denials[number], grant)
        ]
        if holding := _find_holding(grant, restrictions):
            text = f"never allows anything: denials hold it back wholly ({', '.join(holding)})"
            yield Named("grant", grant).finding("hidden", "", text)


def _find_holding(grant: Entry, restrictions: Sequence[Restriction]) -> tuple[str, ...]:
    """The denials that leave no request, of those given."""
    cases = (
        case
        for key, pattern in _callers_of(grant)
        for case in cases_of(grant, "list", _case_of(key, pattern), grant["clusters"], restrictions)
    )
    found = find_opening(cases, restrictions)
    return found if isinstance(found, tuple) else ()


def _case_of(key: str, pattern: str) -> Case:
    if key == "groups":
        return Case("", "", (), (member_of(pattern),), frozenset({word_of(pattern)}), may_join=True)
    return Case("", "", (), (pattern,), may_join=True)


def _find_naming(index: _Callers, caller: _Caller) -> Iterator[int]:
    """The numbers of the entries that name each such caller."""
    key, pattern = caller
    yield from index[key].find(word_of(pattern))
    if key == "groups":
        yield from index["subjects"].find(member_of(pattern))


def _callers_of(entry: Entry) -> list[_Caller]:
    return [(key, pattern) for key in ("subjects", "groups") for pattern in entry.get(key, ())]


def _index_callers(entries: Sequence[Entry]) -> _Callers:
    index: _Callers = {"subjects": PatternIndex(), "groups": PatternIndex()}
    for number, entry in enumerate(entries):
        for key, pattern in _callers_of(entry):
            index[key].add(pattern, number)
    return index
