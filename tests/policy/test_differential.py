"""The engine wasm, a real OPA server and ``opa eval`` decide every question alike."""

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
from support.opa import OpaServer, compile_data, evaluate
from support.policy_cases import CASES
from support.policy_generated import contents, questions

Content = dict[str, Any]
Result = dict[str, Any]


def _generate_cases() -> list[tuple[Content, list[Question]]]:
    random = Random(20261122)
    return [(content, list(questions(random, content, 15))) for content in contents(random, 80)]


def _table_cases() -> list[tuple[Content, list[Question]]]:
    return [(case.content, [case.question]) for case in CASES]


async def _ask(engine: PolicyEngine, question: Question) -> Result:
    decision = await engine.decide(question)
    return {"allow": decision.allowed, "rules": [*decision.rule_ids], "reasons": [*decision.reasons]}


def _decide_by_eval(cases: list[tuple[Content, list[Question]]], folder: Path) -> list[Result]:
    """The decisions of `opa eval`, in order."""
    documents = [
        {"input": question.to_input(), "index": index}
        for content, batch in cases
        for index in [compile_data({"eksgateway": content})]
        for question in batch
    ]
    # Variables first: `with … as c.input` is undefined here, without an error.
    decision = "data.eksgateway.authz.decision with input as question with data.eksgateway.index as index"
    query = f"[d | some c in data.cases; question := c.input; index := c.index; d := {decision}]"
    found: list[Result] = evaluate(query, {"cases": documents}, folder)
    assert all(decision.pop("obligations") == [] for decision in found)
    return found


async def _decide_by_server(opa: OpaServer, cases: list[tuple[Content, list[Question]]]) -> list[Result]:
    engine = await OpaEngine.open(OpaSettings(url=opa.url, poll_s=3600), SystemClock(), timeout_s=30)
    results = []
    try:
        for content, batch in cases:
            await asyncio.to_thread(opa.put, "eksgateway/index", compile_data({"eksgateway": content}))
            results += [await _ask(engine, question) for question in batch]
    finally:
        await engine.close()
    return results


@pytest.mark.parametrize("source", [_table_cases, _generate_cases], ids=["table", "generated"])
async def test_wasm_server_and_eval_decide_alike(
    source: Callable[[], list[tuple[Content, list[Question]]]],
    engines: Callable[[Any], WasmEngine],
    opa: OpaServer,
    tmp_path: Path,
) -> None:
    """Allow, rules and reasons are equal."""
    cases = source()
    embedded = [
        await _ask(engine, question)
        for content, batch in cases
        for engine in [engines(content)]
        for question in batch
    ]
    evaluated = await asyncio.to_thread(_decide_by_eval, cases, tmp_path)
    served = await _decide_by_server(opa, cases)
    flat = [(content, question) for content, batch in cases for question in batch]
    for (content, question), *results in zip(flat, embedded, evaluated, served, strict=True):
        assert results[0] == results[1] == results[2], json.dumps([content, question.to_input()])


async def test_generated_questions_cover_all_stages_and_reasons(engines: Callable[[Any], WasmEngine]) -> None:
    """Hundreds are allowed and hundreds denied."""
    results = [
        (question, await _ask(engine, question))
        for content, batch in _generate_cases()
        for engine in [engines(content)]
        for question in batch
    ]
    assert len(results) >= 500
    for stage, least in (("target", 20), ("request", 60), ("update", 60)):
        for allow in (True, False):
            assert sum(t["allow"] is allow and q.stage == stage for q, t in results) >= least, (stage, allow)
    reasons = " ".join(reason for _, t in results for reason in t["reasons"])
    words = ["no grant", "not allow", "connection", "ticket is", "reason is", "tag", "type", "forbids"]
    assert {word: reasons.count(word) for word in words if reasons.count(word) < 5} == {}
    # A denial always has a reason, and an allow a rule.
    assert all(t["reasons"] and (t["rules"] or "no grant" in t["reasons"][0]) for _, t in results)


async def test_stage_update_never_allows_what_stage_request_denies(
    engines: Callable[[Any], WasmEngine],
) -> None:
    allowed = 0
    for content, batch in _generate_cases():
        engine = engines(content)
        for question in batch:
            if question.stage == "update" and (await _ask(engine, question))["allow"]:
                allowed += 1
                assert (await _ask(engine, replace(question, facts=None, update=None)))["allow"]
    assert allowed >= 60


async def test_stage_target_allows_every_caller_that_may_list_a_cluster_there(
    engines: Callable[[Any], WasmEngine],
) -> None:
    allowed = 0
    for content, batch in _generate_cases():
        engine = engines(content)
        for question in batch:
            cases = replace(question, action=Action.LIST, facts=None, update=None, any_cluster=False)
            if (await _ask(engine, cases))["allow"]:
                allowed += 1
                assert (await _ask(engine, replace(cases, any_cluster=True)))["allow"]
    assert allowed >= 60
