"""Findings about grants that make each other pointless are true, on generated data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from eksgateway.policy.lint.finding import Finding
from eksgateway.policy.lint.findings import find_all
from eksgateway.policy.question import Question
from eksgateway.policy.review.who import Where, find_allowed_callers
from support.policy_reference import Content, Entry, decide
from support.review_generated import (
    ACCOUNTS,
    CLUSTERS,
    GROUPS,
    REGIONS,
    SUBJECTS,
    TIMES,
    TYPES,
    make_content,
    make_question,
    question_of,
    some,
)

SEEDS = range(300)
_DROPPED = ("require", "ticket_patterns", "tags", "claims", "via", "windows", "until", "from")
_LISTS = {
    "accounts": ACCOUNTS,
    "regions": REGIONS,
    "clusters": CLUSTERS,
    "groups": GROUPS,
    "subjects": SUBJECTS,
    "update_types": TYPES,
}


def with_a_relative(random: Random, content: Content) -> Content:
    """The first grant, and one like it with a few keys removed or other items."""
    grant = content["grants"][0]
    other = {**grant, "id": "other"}
    for key in random.sample(_DROPPED, random.randint(0, 8)):
        other.pop(key, None)
    for key in random.sample([*_LISTS], random.randint(0, 2)):
        if key in other:
            other[key] = [*other[key], *some(random, _LISTS[key])]
    return {**content, "grants": [grant, other] if random.random() < 0.5 else [other, grant]}


def allows(question: Question, grant: Entry, denials: list[Entry] | None = None) -> bool:
    content = {"grants": [grant], "denials": denials or [], "freezes": []}
    return bool(decide(content, question.to_input())["allow"])


def questions_to(random: Random, grant: Entry, at: Any) -> Iterator[Question]:
    """Questions that the grant allows by itself, and others, from a time on."""
    alone = {"grants": [grant], "denials": [], "freezes": []}
    for time in TIMES:
        if time < at:
            continue
        for cluster in ("p-1", "p-x-1", "p-pci-1", "a1b", "x"):
            for action in grant["actions"]:
                for right in find_allowed_callers(alone, Where(cluster), action, time).rights:
                    if right.example is not None:
                        yield question_of(right.example, grant, action, time)
        yield make_question(random, time)


def is_true(found: Finding, content: Content, questions: list[Question]) -> bool:
    grants = {each["id"]: each for each in content["grants"]}
    grant = grants[found.entry]
    (wider,) = [each for name, each in grants.items() if name != found.entry]
    match found.rule:
        case "redundant":
            return all(allows(each, wider) for each in questions if allows(each, grant))
        case "undone-requirement":
            free = {key: value for key, value in grant.items() if key != found.place}
            types = {*grant["update_types"]} & {*wider["update_types"]}
            kept = {"require", "ticket_patterns"} & {*wider}
            asked = [
                each
                for each in questions
                if each.action == "cancel" and (each.update is None or each.update.type in types)
            ]
            return bool(kept) or all(allows(each, wider) for each in asked if allows(each, free))
        case "hidden":
            return not any(allows(each, grant, content["denials"]) for each in questions)
    return True


@pytest.mark.parametrize("at", [TIMES[0], TIMES[5]], ids=str)
def test_findings_about_grants_are_true(at: Any) -> None:
    """From that time on, whatever the request. Callers of an issuer have no `/` in their names here."""
    rules: Counter[str] = Counter()
    for seed in SEEDS:
        random = Random(seed)
        content = with_a_relative(random, make_content(random))
        for found in find_all(content, at, TYPES):
            if found.rule in ("redundant", "undone-requirement", "hidden"):
                rules[found.rule] += 1
                grant = next(each for each in content["grants"] if each["id"] == found.entry)
                questions = [
                    each
                    for each in questions_to(random, grant, at)
                    if "/" not in each.caller.id[4:] or each.caller.type == "spiffe"
                ]
                assert is_true(found, content, questions), (str(found), content)
    assert min(rules[rule] for rule in ("redundant", "undone-requirement", "hidden")) > 5, rules
