"""The table of decisions, each in full, through the engine in the process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from eksgateway.model import Decision
from eksgateway.policy.wasm import WasmEngine
from support.policy_cases import CASES, Case


def test_the_table_is_large_and_its_names_differ() -> None:
    """At least sixty cases, each with a name of its own, and many of either outcome."""
    assert len({case.name for case in CASES}) == len(CASES) >= 60
    assert 25 < sum(case.allow for case in CASES) < len(CASES) - 25


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_the_decision_is_the_one_in_the_table(case: Case, engines: Callable[[Any], WasmEngine]) -> None:
    """Allow, rules and reasons are what the table says."""
    engine = engines(case.content)
    decision = await engine.decide(case.question)
    assert decision == Decision("d-1", case.allow, case.rules, case.reasons, engine.revision)
