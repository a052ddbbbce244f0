"""Decides inputs by an index in each engine: the module in this process, an OPA server and ``opa eval``.

A decision is ``{"allow": …, "rules": […], "reasons": […]}``.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from eksgateway.clock import SystemClock
from eksgateway.policy.engine import PolicyEngine
from eksgateway.policy.opa import OpaEngine
from eksgateway.policy.question import Question
from eksgateway.policy.results import read_result_set
from eksgateway.policy.wasm_module import PolicyInstance, PolicyModule
from eksgateway.policy.wasm_runtime import WasmRuntime
from eksgateway.settings import OpaSettings
from support.opa import OpaServer, evaluate

Index = dict[str, Any]
Result = dict[str, Any]
_INDEXES = 200  # that one run of `opa eval` reads
Batch = tuple[Index, list[Question]]  # an index and questions about it


async def ask(engine: PolicyEngine, question: Question) -> Result:
    decision = await engine.decide(question)
    return {"allow": decision.allowed, "rules": [*decision.rule_ids], "reasons": [*decision.reasons]}


@contextmanager
def open_module() -> Iterator[PolicyModule]:
    """The package's module. It cannot be used afterwards."""
    with closing(WasmRuntime()) as runtime:
        yield PolicyModule(runtime, (files("eksgateway.policy") / "policy.wasm").read_bytes())


def decide_by_module(module: PolicyModule, batches: Iterable[Batch]) -> list[Result]:
    """The decisions of all questions in order."""
    return [result for index, batch in batches for result in decide_all(module, index, batch)]


def decide_all(module: PolicyModule, index: Index, batch: list[Question]) -> list[Result]:
    """The decisions of one index."""
    data = json.dumps({"eksgateway": {"index": index}}).encode()
    with closing(PolicyInstance(module, data, load_s=30)) as instance:
        documents = [json.dumps(question.to_input()).encode() for question in batch]
        results = [read_result_set(instance.evaluate(each, deadline_s=30)) for each in documents]
    assert all(decision.pop("obligations") == [] and decision.pop("until_edge") for decision in results)
    return results


def decide_by_eval(batches: list[Batch], folder: Path) -> list[Result]:
    """The decisions of all questions in order, from runs of ``opa eval``. Blocks."""
    # Variables first: `with … as c.index` is undefined here, without an error.
    decision = "data.eksgateway.authz.decision with input as question with data.eksgateway.index as index"
    query = f"[d | some c in data.cases; index := c.index; some question in c.inputs; d := {decision}]"
    results: list[Result] = []
    for begin in range(0, len(batches), _INDEXES):
        cases = [
            {"index": index, "inputs": [each.to_input() for each in batch]}
            for index, batch in batches[begin : begin + _INDEXES]
        ]
        results += evaluate(query, {"cases": cases}, folder)
    assert len(results) == sum(len(batch) for _, batch in batches)
    assert all(decision.pop("obligations") == [] and decision.pop("until_edge") for decision in results)
    return results


async def decide_by_server(opa: OpaServer, batches: list[Batch]) -> list[Result]:
    """The decisions of all questions in order. The OPA gets each index in turn."""
    await asyncio.to_thread(opa.put, "eksgateway/index", batches[0][0])
    engine = await OpaEngine.open(OpaSettings(url=opa.url, poll_s=3600), SystemClock(), timeout_s=30)
    results = []
    try:
        for index, batch in batches:
            await asyncio.to_thread(opa.put, "eksgateway/index", index)
            results += [await ask(engine, question) for question in batch]
    finally:
        await engine.close()
    return results
