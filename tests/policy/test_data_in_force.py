"""Policy data is put in force by the engine that the settings name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eksgateway.clock import SystemClock
from eksgateway.policy.factory import open_policy_engine
from eksgateway.policy.source import PolicyDataError
from eksgateway.settings import WasmPolicySettings
from support.policy_cases import ONCALL
from support.questions import at_request, caller

ALICE = caller("jwt:corp:alice", "corp:platform")


def write_grant(**changes: Any) -> str:
    return json.dumps({"eksgateway": {"grants": [ONCALL | changes]}})


async def test_a_change_of_the_data_changes_the_decision(tmp_path: Path) -> None:
    path = tmp_path / "grants.yaml"
    answers = {}
    for group in ("corp:platform", "corp:nobody"):
        path.write_text(write_grant(groups=[group]))
        engine = await open_policy_engine(WasmPolicySettings(data=path), SystemClock())
        try:
            answers[group] = await engine.decide(at_request(ALICE))
        finally:
            await engine.close()
    assert answers["corp:platform"].rule_ids == ("oncall",)
    assert not answers["corp:nobody"].allowed
    assert len({answer.policy_revision for answer in answers.values()}) == 2


async def test_an_engine_does_not_open_with_invalid_data(tmp_path: Path) -> None:
    """The error has every fault."""
    path = tmp_path / "grants.yaml"
    path.write_text("eksgateway: {grants: [{id: a}]}")
    with pytest.raises(PolicyDataError, match=r"eksgateway\.grants\[0\]\.actions: is missing"):
        await open_policy_engine(WasmPolicySettings(data=path), SystemClock())
