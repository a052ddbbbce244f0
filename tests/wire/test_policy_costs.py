"""Slow policy evaluations do not affect other callers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from eksgateway.cli.main import app
from eksgateway.clock import SystemClock
from eksgateway.policy.engine import PolicyEngine, PolicyLoadError
from eksgateway.policy.factory import open_policy_engine
from eksgateway.settings import WasmPolicySettings
from support.gateway import POLICY_DATA, run_gateway
from support.logs import capture_logs
from support.opa import compile_rego
from support.simulator import SimulatedEks
from support.waiting import wait_until
from support.wire import check, expect_refusal

# Allows everything. Decisions never end for the caller `slow`, and for every caller with 300 grants.
REGO = """package eksgateway.authz

default decision := {"allow": true, "rules": ["all"], "reasons": [], "obligations": []}

decision := {"allow": false} if {
	input.subject.id == "jwt:test:slow"
	never(numbers.range(1, 3000))
}

decision := {"allow": false} if never([id | some id, _ in data.eksgateway.index.grants])

never(list) if count([1 | some a in list; some b in list; some c in list; a > b; b > c; c > a]) == 1
"""


def make_data(grants: int) -> dict[str, Any]:
    """Policy data with so many grants."""
    grant = POLICY_DATA["eksgateway"]["grants"][0]
    return {"eksgateway": {"grants": [grant | {"id": f"g-{number}"} for number in range(grants)]}}


async def open_policy(folder: Path, data: dict[str, Any], timeout_s: float = 2) -> PolicyEngine:
    """Open the policy with this data."""
    module, file = folder / "policy.wasm", folder / "data.yaml"
    module.write_bytes(await asyncio.to_thread(compile_rego, REGO, folder))
    file.write_text(yaml.safe_dump(data))
    return await open_policy_engine(
        WasmPolicySettings(data=file, module=module, timeout_s=timeout_s), SystemClock()
    )


async def test_slow_evaluations_delay_no_other_caller(tmp_path: Path, eks: SimulatedEks) -> None:
    """Calls of the slow caller fail, and nothing is sent."""
    engine = await open_policy(tmp_path, POLICY_DATA, timeout_s=4)
    async with run_gateway(tmp_path, eks, policy=engine) as gateway:
        first, second = eks.rollback("prod-1"), eks.rollback("staging-1")
        slow = gateway.credentials("slow")
        calls = [
            asyncio.create_task(expect_refusal(gateway.cancel("prod-1", first, slow))) for _ in range(20)
        ]
        for number in range(10):
            assert (await check(gateway, "prod-1", first)).decision.allowed, number
        assert (await gateway.cancel("staging-1", second)).update_id == second
        assert not any(each.done() for each in calls)
        for refusal in await asyncio.gather(*calls):
            assert refusal.reason in {"POLICY_UNAVAILABLE", "OVERLOADED"}
        assert len(eks.calls("CancelUpdate")) == 1


async def test_too_costly_data_leaves_the_old_in_force(tmp_path: Path, eks: SimulatedEks) -> None:
    """The log names the limit."""
    engine = await open_policy(tmp_path, POLICY_DATA)
    async with run_gateway(tmp_path, eks, policy=engine) as gateway:
        before = gateway.gateway.policy.revision
        with capture_logs() as logs:
            (tmp_path / "data.yaml").write_text(yaml.safe_dump(make_data(350)))
            gateway.gateway.reload()
            await wait_until(lambda: any(each["event"] == "policy.refused" for each in logs), deadline_s=60)
        assert gateway.gateway.policy.revision == before
        (fault,) = next(each for each in logs if each["event"] == "policy.refused")["faults"]
        assert "s of CPU time, and may take 0.25 s" in fault
        assert "350 grants" in fault
        assert "use the engine opa" in fault
        assert (await gateway.cancel("prod-1", eks.rollback("prod-1"))).decision.allowed


async def test_start_with_too_costly_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PolicyLoadError, match=r"data\.yaml: a decision takes .*; 350 grants, 0 freezes"):
        await open_policy(tmp_path, make_data(350))


async def test_start_with_data_beyond_the_limits_is_refused_with_the_file(tmp_path: Path) -> None:
    with pytest.raises(PolicyLoadError, match=r"data\.yaml:\n  - a decision could take .* ms of CPU time"):
        await open_policy(tmp_path, make_data(1000))


async def test_policy_check_refuses_too_costly_data(tmp_path: Path) -> None:
    await (await open_policy(tmp_path, make_data(3))).close()
    data = tmp_path / "data.yaml"
    arguments = ["policy", "check", str(data), "--module", str(tmp_path / "policy.wasm")]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    data.write_text(yaml.safe_dump(make_data(350)))
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert "s of CPU time, and may take 0.25 s" in result.output
