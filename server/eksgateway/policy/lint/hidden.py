"""Grants that denials make pointless."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Final

from eksgateway.policy.coverage import Entry
from eksgateway.policy.lint.caller_index import callers_of, find_naming, index_callers
from eksgateway.policy.lint.containment import ends_later, member_of
from eksgateway.policy.lint.finding import Finding, Named
from eksgateway.policy.lint.pattern_index import PatternIndex, index_clusters
from eksgateway.policy.patterns import matches_any
from eksgateway.policy.review.cases import Case, Restriction, find_opening
from eksgateway.policy.review.grant_cases import cases_of
from eksgateway.policy.review.times import is_over, why_not_in_force
from eksgateway.policy.review.words import word_of

_MAX_JUDGED: Final = 200_000  # denials, each for a grant: about a second


def find(content: Mapping[str, Sequence[Entry]], at: datetime) -> Iterator[Finding]:
    """Grants that denials leave nothing of, for as long as they last."""
    denials = content["denials"]
    callers, clusters = index_callers(denials), index_clusters(denials)
    naming = cache(lambda caller: frozenset[int]().union(*find_naming(callers, caller)))
    judged = 0
    for grant in content["grants"]:
        named = [naming(caller) for caller in callers_of(grant)]
        if not all(named) or is_over(grant, at) or not _is_denied_somewhere(grant, named[0], clusters):
            continue
        numbers = sorted(frozenset[int]().union(*named))
        judged += len(numbers)
        if judged > _MAX_JUDGED:
            text = "this and later grants were not compared with denials: too many name the same callers"
            yield Named("grant", grant).make_finding("not-compared", "", f"{text} and clusters")
            return
        restrictions = [
            Restriction(denials[number], is_freeze=False)
            for number in numbers
            if not why_not_in_force(denials[number], at) and ends_later(denials[number], grant)
        ]
        if holding := _find_holding(grant, restrictions):
            text = f"never allows anything: denials hold it back wholly ({', '.join(holding)})"
            yield Named("grant", grant).make_finding("hidden", "", text)


def _is_denied_somewhere(grant: Entry, naming: frozenset[int], clusters: PatternIndex[int]) -> bool:
    """Whether denials of a caller name one of the grant's clusters, without which there is much left."""
    excluded = grant.get("except_clusters", ())
    words = (word_of(pattern) for pattern in grant["clusters"])
    word = next((each for each in words if not matches_any(excluded, each)), "")
    return any(not naming.isdisjoint(numbers) for numbers in clusters.find(word))


def _find_holding(grant: Entry, restrictions: Sequence[Restriction]) -> tuple[str, ...]:
    """The denials that leave no request, of those given."""
    cases = (
        case
        for key, pattern in callers_of(grant)
        for case in cases_of(grant, "list", _case_of(key, pattern), grant["clusters"], restrictions)
    )
    found = find_opening(cases, restrictions)
    return found if isinstance(found, tuple) else ()


def _case_of(key: str, pattern: str) -> Case:
    if key == "groups":
        return Case("", "", (), (member_of(pattern),), frozenset({word_of(pattern)}), may_join=True)
    return Case("", "", (), (pattern,), may_join=True)
