"""The engine wasm, a real OPA server and ``opa eval`` decide every question as the reference does."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from eksgateway.policy.compiler import compile_content
from eksgateway.policy.question import Question
from eksgateway.policy.wasm_module import PolicyModule
from support.opa import OpaServer
from support.policy_block_cases import BLOCK_CASES
from support.policy_cases import CASES
from support.policy_deciders import Batch, decide_by_eval, decide_by_module, decide_by_server
from support.policy_generated import Content, contents
from support.policy_grant_cases import GRANT_CASES
from support.policy_questions import questions
from support.policy_reference import decide

Cases = list[tuple[Content, list[Question]]]

# A larger proof: POLICY_CONTENTS=2000 POLICY_SEED=7 pytest tests/policy/test_differential.py
CONTENTS = int(os.environ.get("POLICY_CONTENTS", "60"))
SEED = int(os.environ.get("POLICY_SEED", "20261122"))
QUESTIONS = 20  # about each content


def generate_cases(count: int = CONTENTS) -> Cases:
    random = Random(SEED)
    return [(content, list(questions(random, content, QUESTIONS))) for content in contents(random, count)]


def table_cases() -> Cases:
    return [(case.content, [case.question]) for case in [*CASES, *GRANT_CASES, *BLOCK_CASES]]


def to_batches(cases: Cases) -> list[Batch]:
    return [(compile_content(content)["eksgateway"]["index"], batch) for content, batch in cases]


@pytest.mark.parametrize("source", [table_cases, generate_cases], ids=["table", "generated"])
async def test_all_engines_decide_as_the_reference(
    source: Callable[[], Cases],
    policy_module: PolicyModule,
    opa_without_data: OpaServer,
    tmp_path: Path,
) -> None:
    """Allow, rules and reasons are equal."""
    cases = source()
    batches = to_batches(cases)
    flat = [(content, question) for content, batch in cases for question in batch]
    embedded = decide_by_module(policy_module, batches)
    served = await decide_by_server(opa_without_data, batches)
    evaluated = await asyncio.to_thread(decide_by_eval, batches, tmp_path)
    for (content, question), *results in zip(flat, embedded, served, evaluated, strict=True):
        document = question.to_input()
        expected = decide(content, document)
        assert results == [expected] * 3, json.dumps([content, document])
