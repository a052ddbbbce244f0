"""A table of decisions, through the engine wasm and the reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from eksgateway.model import Decision
from eksgateway.policy.wasm import WasmEngine
from support.policy_block_cases import BLOCK_CASES
from support.policy_cases import CASES, Case
from support.policy_grant_cases import GRANT_CASES
from support.policy_reference import decide

ALL_CASES = [*CASES, *GRANT_CASES, *BLOCK_CASES]


def test_the_table_has_many_allows_and_denials_with_unique_names() -> None:
    assert len({case.name for case in ALL_CASES}) == len(ALL_CASES) >= 200
    assert 80 < sum(case.allow for case in ALL_CASES) < len(ALL_CASES) - 80


@pytest.mark.parametrize("case", ALL_CASES, ids=lambda case: case.name)
async def test_the_decision_equals_the_table(case: Case, engines: Callable[[Any], WasmEngine]) -> None:
    engine = engines(case.content)
    decision = await engine.decide(case.question)
    assert decision == Decision("d-1", case.allow, case.rules, case.reasons, engine.revision)


@pytest.mark.parametrize("case", ALL_CASES, ids=lambda case: case.name)
def test_the_reference_decides_as_the_table(case: Case) -> None:
    expected = {"allow": case.allow, "rules": [*case.rules], "reasons": [*case.reasons]}
    assert decide(case.content, case.question.to_input()) == expected
