"""A table of decisions, through the engine wasm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from eksgateway.model import Decision
from eksgateway.policy.wasm import WasmEngine
from support.policy_cases import CASES, Case


def test_the_table_has_many_allows_and_denials_with_unique_names() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 60
    assert 25 < sum(case.allow for case in CASES) < len(CASES) - 25


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_the_decision_equals_the_table(case: Case, engines: Callable[[Any], WasmEngine]) -> None:
    engine = engines(case.content)
    decision = await engine.decide(case.question)
    assert decision == Decision("d-1", case.allow, case.rules, case.reasons, engine.revision)
