"""The same question gets the same decision from wasm, from a real OPA server and from ``opa eval``."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from eksgateway.clock import SystemClock
from eksgateway.model import Action
from eksgateway.policy.engine import PolicyEngine
from eksgateway.policy.opa import OpaEngine
from eksgateway.policy.question import Question
from eksgateway.policy.wasm import WasmEngine
from eksgateway.settings import OpaSettings
from support.opa import OpaServer, evaluate
from support.policy_cases import CASES
from support.policy_generated import contents, questions

Content = dict[str, Any]
Told = dict[str, Any]

ABSENT = {"grants": "eksgateway/grants", "freezes": "eksgateway/freezes"}


def _generated() -> list[tuple[Content, list[Question]]]:
    random = Random(20261122)
    return [(content, list(questions(random, content, 15))) for content in contents(random, 80)]


def _table() -> list[tuple[Content, list[Question]]]:
    return [(case.content, [case.question]) for case in CASES]


async def _ask(engine: PolicyEngine, question: Question) -> Told:
    decision = await engine.decide(question)
    return {"allow": decision.allowed, "rules": [*decision.rule_ids], "reasons": [*decision.reasons]}


def _evaluated(asked: list[tuple[Content, list[Question]]], folder: Path) -> list[Told]:
    """What `opa eval` says to all of them, in order: one process for each set of keys that data has."""
    flat = [(content, question) for content, batch in asked for question in batch]
    told: dict[int, Told] = {}
    for keys in {tuple(sorted(content)) for content, _ in flat}:
        chosen = [index for index, (content, _) in enumerate(flat) if tuple(sorted(content)) == keys]
        cases = [{"input": flat[index][1].to_input(), "content": flat[index][0]} for index in chosen]
        # Variables first: `with … as c.input` is undefined here, in silence.
        bound = "".join(f"{key} := c.content.{key}; " for key in keys)
        replaced = "".join(f" with data.eksgateway.{key} as {key}" for key in keys)
        decision = f"data.eksgateway.authz.decision with input as question{replaced}"
        query = f"[d | some c in data.cases; question := c.input; {bound}d := {decision}]"
        told |= zip(chosen, evaluate(query, {"cases": cases}, folder), strict=True)
    found = [told[index] for index in range(len(flat))]
    assert all(decision.pop("obligations") == [] for decision in found)
    return found


async def _served(opa: OpaServer, asked: list[tuple[Content, list[Question]]]) -> list[Told]:
    engine = await OpaEngine.open(OpaSettings(url=opa.url, poll_s=3600), SystemClock(), timeout_s=30)
    told = []
    try:
        for content, batch in asked:
            for key, path in ABSENT.items():
                change = (opa.put, path, content[key]) if key in content else (opa.remove, path)
                await asyncio.to_thread(*change)
            told += [await _ask(engine, question) for question in batch]
    finally:
        await engine.close()
    return told


@pytest.mark.parametrize("source", [_table, _generated], ids=["table", "generated"])
async def test_three_ways_one_decision(
    source: Callable[[], list[tuple[Content, list[Question]]]],
    engines: Callable[[Any], WasmEngine],
    opa: OpaServer,
    tmp_path: Path,
) -> None:
    """Allow, rules and reasons are equal for every question and all data, broken data included."""
    asked = source()
    embedded = [
        await _ask(engine, question)
        for content, batch in asked
        for engine in [engines(content)]
        for question in batch
    ]
    evaluated = await asyncio.to_thread(_evaluated, asked, tmp_path)
    served = await _served(opa, asked)
    flat = [(content, question) for content, batch in asked for question in batch]
    for (content, question), *told in zip(flat, embedded, evaluated, served, strict=True):
        assert told[0] == told[1] == told[2], json.dumps([content, question.to_input()])


async def test_generated_questions_are_worth_asking(engines: Callable[[Any], WasmEngine]) -> None:
    """Hundreds are allowed and hundreds denied, at all stages, for all kinds of reasons."""
    told = [
        (question, await _ask(engine, question))
        for content, batch in _generated()
        for engine in [engines(content)]
        for question in batch
    ]
    assert len(told) >= 500
    for stage, least in (("target", 20), ("request", 60), ("update", 60)):
        for allow in (True, False):
            assert sum(t["allow"] is allow and q.stage == stage for q, t in told) >= least, (stage, allow)
    reasons = " ".join(reason for _, t in told for reason in t["reasons"])
    words = ["no grant", "not allow", "connection", "ticket is", "reason is", "tag", "type", "forbids"]
    assert {word: reasons.count(word) for word in [*words, "malformed"] if reasons.count(word) < 5} == {}
    # A denial always says why, and an allow always by which grant.
    assert all(t["reasons"] and (t["rules"] or "no grant" in t["reasons"][0]) for _, t in told)


async def test_stage_update_never_allows_what_stage_request_would_not(
    engines: Callable[[Any], WasmEngine],
) -> None:
    """Who is allowed with all facts known was allowed without them."""
    allowed = 0
    for content, batch in _generated():
        engine = engines(content)
        for question in batch:
            if question.stage == "update" and (await _ask(engine, question))["allow"]:
                allowed += 1
                assert (await _ask(engine, replace(question, facts=None, update=None)))["allow"]
    assert allowed >= 60


async def test_stage_target_refuses_nobody_who_may_list_a_cluster_there(
    engines: Callable[[Any], WasmEngine],
) -> None:
    """Who may list some cluster may ask what there is to list."""
    allowed = 0
    for content, batch in _generated():
        engine = engines(content)
        for question in batch:
            asked = replace(question, action=Action.LIST, facts=None, update=None, any_cluster=False)
            if (await _ask(engine, asked))["allow"]:
                allowed += 1
                assert (await _ask(engine, replace(asked, any_cluster=True)))["allow"]
    assert allowed >= 60
