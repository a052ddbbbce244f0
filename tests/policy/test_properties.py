"""Relations between decisions that hold for every policy: stages, and what a stricter policy may change."""

from __future__ import annotations

import contextlib
import copy
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from random import Random

import pytest

from eksgateway.model import Action
from eksgateway.policy.compiler import compile_content
from eksgateway.policy.engine import PolicyTooLarge
from eksgateway.policy.question import Question
from eksgateway.policy.wasm_module import PolicyModule
from support.policy_deciders import Result, decide_all
from support.policy_generated import CONDITIONS, Content, contents, denial, freeze
from support.policy_questions import questions

Cases = list[tuple[Content, list[Question]]]


@pytest.fixture(scope="module")
def cases() -> Cases:
    random = Random(13)
    return [(content, list(questions(random, content, 20))) for content in contents(random, 40)]


def _decide(module: PolicyModule, content: Content, batch: list[Question]) -> list[Result]:
    return decide_all(module, compile_content(content)["eksgateway"]["index"], batch)


def _allows(module: PolicyModule, content: Content, batch: list[Question]) -> list[bool]:
    return [decision["allow"] for decision in _decide(module, content, batch)]


def test_stage_update_never_allows_what_stage_request_denies(
    policy_module: PolicyModule, cases: Cases
) -> None:
    allowed = 0
    for content, batch in cases:
        updates = [question for question in batch if question.stage == "update"]
        requests = [replace(question, facts=None, update=None) for question in updates]
        at_update, at_request = [_allows(policy_module, content, each) for each in (updates, requests)]
        assert all(map(bool.__le__, at_update, at_request))
        allowed += sum(at_update)
    assert allowed >= 60


def test_stage_target_allows_every_caller_that_may_list_a_cluster_there(
    policy_module: PolicyModule, cases: Cases
) -> None:
    allowed = 0
    for content, batch in cases:
        lists = [
            replace(each, action=Action.LIST, facts=None, update=None, any_cluster=False) for each in batch
        ]
        targets = [replace(each, any_cluster=True) for each in lists]
        at_request, at_target = [_allows(policy_module, content, each) for each in (lists, targets)]
        assert all(map(bool.__le__, at_request, at_target))
        allowed += sum(at_request)
    assert allowed >= 60


def test_a_denial_of_the_caller_beats_every_grant(policy_module: PolicyModule, cases: Cases) -> None:
    for content, batch in cases:
        known = [question for question in batch if question.caller.id and "*" not in question.caller.id]
        block = {
            "id": "block",
            "reason": "See INC-7.",
            "subjects": sorted({each.caller.id for each in known}),
        }
        blocked = {**content, "denials": [*content["denials"], block]}
        assert not any(_allows(policy_module, blocked, known))


def test_a_stricter_policy_allows_nothing_more(policy_module: PolicyModule, cases: Cases) -> None:
    random = Random(34)
    denied: Counter[str] = Counter()
    for content, batch in cases:
        before = _allows(policy_module, content, batch)
        for change, stricter in _tighten(random, content):
            if stricter == content or random.random() < 0.5:
                continue
            with contextlib.suppress(PolicyTooLarge):
                after = _allows(policy_module, stricter, batch)
                assert all(map(bool.__le__, after, before)), (change, content, stricter)
                denied[change] += sum(before) - sum(after)
    changes = {
        "denial added",
        "freeze added",
        "grant removed",
        *(f"grant: {key} added" for key in CONDITIONS),
    }
    assert {change for change in changes if not denied[change]} == set()
    for kind in ("denial: ", "freeze: "):
        assert sum(count for change, count in denied.items() if change.startswith(kind)) > 0


def _tighten(random: Random, content: Content) -> Iterator[tuple[str, Content]]:
    """Each way in which the content can be stricter, with the changed content."""
    yield "denial added", {**content, "denials": [*content["denials"], denial(random, "added")]}
    yield "freeze added", {**content, "freezes": [*content["freezes"], freeze(random, "added")]}
    yield "grant removed", {**content, "grants": content["grants"][1:]}
    for key, make in CONDITIONS.items():
        changed = copy.deepcopy(content)
        for each in changed["grants"]:
            each.setdefault(key, make(random))
        yield f"grant: {key} added", changed
    for kind, keys in (("denials", _DENIAL_LIMITS), ("freezes", _FREEZE_LIMITS)):
        for key in keys:
            changed = copy.deepcopy(content)
            for each in changed[kind]:
                each.pop(key, None)
            if _is_valid(changed):
                yield f"{kind.removesuffix('s')}: {key} removed", changed


_DENIAL_LIMITS = ["accounts", "regions", "clusters", "except_clusters", "from", "until"]
_FREEZE_LIMITS = ["accounts", "regions", "except_clusters", "except_groups", "except_subjects", "tags"]
_FREEZE_LIMITS += ["update_types", "from", "until", "windows"]


def _is_valid(content: Content) -> bool:
    return all("windows" in each or ("from" in each and "until" in each) for each in content["freezes"])


def test_the_order_of_entries_changes_no_decision(policy_module: PolicyModule, cases: Cases) -> None:
    for content, batch in cases:
        backwards = {kind: list(reversed(entries)) for kind, entries in content.items()}
        assert _decide(policy_module, content, batch) == _decide(policy_module, backwards, batch)


def test_owners_and_notes_are_not_compiled(cases: Cases) -> None:
    for content, _ in cases:
        bare = copy.deepcopy(content)
        for entries in bare.values():
            for entry in entries:
                entry.pop("owner", None)
                entry.pop("note", None)
        assert compile_content(bare) == compile_content(content)
