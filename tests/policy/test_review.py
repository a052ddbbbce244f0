"""`policy who` and `policy can` list what the engine allows, and nothing that it never allows."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from eksgateway.model import Action
from eksgateway.policy.compiled_policy import build_policy
from eksgateway.policy.loaded_policy import LoadedPolicy
from eksgateway.policy.patterns import matches
from eksgateway.policy.question import Question
from eksgateway.policy.review.can import ReviewedCaller, find_permissions
from eksgateway.policy.review.holding import find_covering_grants, find_holding_restrictions
from eksgateway.policy.review.who import Right, Where, find_allowed_callers
from eksgateway.policy.wasm_module import PolicyModule
from support.review_generated import TIMES, make_content, make_question, question_of

Content = dict[str, list[dict[str, Any]]]
SEEDS = range(200)
QUESTIONS = 90

# Gives the ids of the grants that allow.
Allowing = Callable[[Question], Sequence[str]]


def has_caller(right: Right, question: Question) -> bool:
    caller = question.caller
    names = [caller.id] if right.kind == "subject" else caller.groups
    return any(matches(right.caller, name) for name in names)


def check_examples(content: Content, random: Random, allowing: Allowing) -> int:
    """Each listed right has an example that the engine allows by that grant."""
    at, checked = random.choice(TIMES), 0
    for action in ("cancel", "get", "list"):
        asked = make_question(random, at)
        where = Where(asked.cluster.name, *random.choice([("", ""), (asked.cluster.account_id, "")]))
        for right in find_allowed_callers(content, where, action, at).rights:
            if right.example is not None:
                question = question_of(right.example, right.grant, action, at)
                assert right.grant["id"] in allowing(question), (right, content)
                assert has_caller(right, question)
                checked += 1
    asked = make_question(random, at)
    found = find_permissions(content, ReviewedCaller(asked.caller.id, asked.caller.groups), at)
    for permission in found.permissions:
        assert {*permission.held_by} <= {each.id for each in found.restrictions}
        for (action, _), example in permission.examples.items():
            question = question_of(example, permission.grant, action, at)
            assert permission.grant["id"] in allowing(question), (permission, content)
            checked += 1
    return checked


def check_questions(content: Content, random: Random, allowing: Allowing) -> int:
    """Each pair of caller and cluster that the engine allows is listed with its grant."""
    allowed = 0
    for _ in range(QUESTIONS):
        question = make_question(random, random.choice(TIMES))
        for name in allowing(question):
            assert_listed(content, question, name)
            allowed += 1
    return allowed


def assert_listed(content: Content, question: Question, name: str) -> None:
    cluster, caller, action = question.cluster, question.caller, question.action.value
    for where in (
        Where(cluster.name),
        Where(cluster.name, cluster.account_id),
        Where(cluster.name, cluster.account_id, cluster.region),
    ):
        rights = find_allowed_callers(content, where, action, question.time).rights
        assert any(
            each.grant["id"] == name and each.example is not None and has_caller(each, question)
            for each in rights
        ), (where, question, content)
    claims = {claim.name: claim.values for claim in caller.claims}
    for reviewed in (
        ReviewedCaller(caller.id, caller.groups),
        ReviewedCaller(caller.id, caller.groups, claims, caller.via or ""),
    ):
        permissions = find_permissions(content, reviewed, question.time).permissions
        assert any(
            each.grant["id"] == name and (action, pattern) in each.examples and matches(pattern, cluster.name)
            for each in permissions
            for pattern in each.clusters
        ), (reviewed, question, content)


def by_engine(policy: LoadedPolicy) -> Allowing:
    def decide(question: Question) -> Sequence[str]:
        result = policy.evaluate(json.dumps(question.to_input()).encode(), deadline_s=5)
        return result["rules"] if result["allow"] else ()

    return decide


@pytest.mark.parametrize("check", [check_examples, check_questions])
def test_rights_are_those_of_the_engine(check: Any, policy_module: PolicyModule) -> None:
    """On generated data of the whole language."""
    checked = 0
    for seed in SEEDS:
        random = Random(seed)
        content = make_content(random)
        with closing(LoadedPolicy(policy_module, build_policy(content))) as policy:
            checked += check(content, random, by_engine(policy))
    assert checked > 300


def test_the_entries_of_an_input_are_those_of_the_engine(policy_module: PolicyModule) -> None:
    """The grants that cover it, and the denials and freezes that hold on it, at each stage."""
    denied = 0
    for seed in SEEDS:
        random = Random(seed)
        content = make_content(random)
        with closing(LoadedPolicy(policy_module, build_policy(content))) as policy:
            for _ in range(QUESTIONS):
                question = at_any_stage(random, make_question(random, random.choice(TIMES)))
                document = question.to_input()
                result = policy.evaluate(json.dumps(document).encode(), deadline_s=5)
                covering = list(find_covering_grants(content, document))
                assert bool(covering) == bool(result["rules"]), (content, document)
                holding = {each.id for each in find_holding_restrictions(content, document)}
                if not covering or not any(question.action in grant["actions"] for grant in covering):
                    continue
                assert holding == {rule for rule in result["rules"] if rule[0] in "df"}, (content, document)
                denied += bool(holding)
    assert denied > 300


def at_any_stage(random: Random, question: Question) -> Question:
    match random.choice(["as it is", "request", "target"]):
        case "request":
            return replace(question, facts=None, update=None)
        case "target":
            return replace(question, facts=None, update=None, action=Action.LIST, any_cluster=True)
    return question


def test_review_of_exceptions_that_overlap_ends() -> None:
    """Where the search for a request that none holds back is given up, there may be one."""
    denial = {"groups": ["corp:*"], "reason": "r"}
    grant = {"id": "g", "groups": ["corp:a"], "actions": ["get"], "clusters": ["*"]}
    content = {
        "grants": [grant | {"accounts": ["*"], "regions": ["*"]}],
        "denials": [
            denial | {"id": f"d{each}", "except_clusters": [f"*x{each}*", f"*y{each}*"]} for each in range(40)
        ],
        "freezes": [],
    }
    began = time.process_time()
    found = find_permissions(content, ReviewedCaller("jwt:corp:dana", ("corp:a",)), TIMES[0])
    assert time.process_time() - began < 4
    assert [each.held_by for each in found.permissions] == [()]
