"""Grants that denials make pointless."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from eksgateway.policy.lint.caller_index import callers_of, find_naming, index_callers
from eksgateway.policy.lint.containment import ends_later, member_of
from eksgateway.policy.lint.finding import Entry, Finding, Named
from eksgateway.policy.review.cases import Case, Restriction, find_opening
from eksgateway.policy.review.grant_cases import cases_of
from eksgateway.policy.review.times import is_over, why_not_in_force
from eksgateway.policy.review.words import word_of


def find(content: Mapping[str, Sequence[Entry]], at: datetime) -> Iterator[Finding]:
    """Grants that denials leave nothing of, for as long as they last."""
    denials = content["denials"]
    callers = index_callers(denials)
    for grant in content["grants"]:
        named = [set().union(*find_naming(callers, caller)) for caller in callers_of(grant)]
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
        for key, pattern in callers_of(grant)
        for case in cases_of(grant, "list", _case_of(key, pattern), grant["clusters"], restrictions)
    )
    found = find_opening(cases, restrictions)
    return found if isinstance(found, tuple) else ()


def _case_of(key: str, pattern: str) -> Case:
    if key == "groups":
        return Case("", "", (), (member_of(pattern),), frozenset({word_of(pattern)}), may_join=True)
    return Case("", "", (), (pattern,), may_join=True)
