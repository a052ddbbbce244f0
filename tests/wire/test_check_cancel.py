"""CheckCancelUpdate: a dry run that sends and binds nothing."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from support.gateway import POLICY_DATA, WHERE, RunningGateway, run_gateway
from support.simulator import SimulatedEks
from support.wire import PRODUCTION, check, expect_refusal, get_update


async def test_check_sends_and_records_nothing(gateway: RunningGateway) -> None:
    """Reading calls only."""
    update_id = gateway.eks.rollback("prod-1", tags=PRODUCTION)
    checked = await check(gateway, "prod-1", update_id)
    assert checked.decision.allowed
    assert checked.cancellability.cancellable_now
    assert {call.operation for call in gateway.eks.calls()} == {"DescribeCluster", "DescribeUpdate"}
    assert await gateway.gateway.ledger.pending() == ()


# Groups, fields and cluster of checks; each is decided as a cancel would be.
CASES: dict[str, tuple[list[str], dict[str, str], dict[str, Any]]] = {
    "allowed": (["oncall"], {}, {}),
    "without-a-ticket": (["oncall"], {"ticket": ""}, {}),
    "another-tag": (["oncall", "viewers"], {}, {"tags": {"environment": "test"}}),
    "another-type": (["oncall"], {}, {"update_type": "VersionUpdate"}),
    "a-viewer": (["viewers"], {}, {}),
}


@pytest.mark.parametrize(("groups", "texts", "cluster"), CASES.values(), ids=CASES)
async def test_check_returns_the_decision_of_a_cancel(
    gateway: RunningGateway, groups: list[str], texts: dict[str, str], cluster: dict[str, Any]
) -> None:
    metadata = gateway.credentials("somebody", *groups)
    update_id = gateway.eks.rollback("prod-1", **{"tags": PRODUCTION} | cluster)
    decision = (await check(gateway, "prod-1", update_id, metadata, **texts)).decision
    call = gateway.cancel("prod-1", update_id, metadata, **texts)
    if decision.allowed:
        cancelled = (await call).decision
        assert list(cancelled.rule_ids) == list(decision.rule_ids)
        assert cancelled.policy_revision == decision.policy_revision
        return
    denied = await expect_refusal(call)
    assert denied.reason == "POLICY_DENIED"
    assert denied.metadata["rule_ids"].split(",") == list(decision.rule_ids)
    assert denied.metadata["reasons"].split("\n") == list(decision.reasons)


async def test_check_names_the_freeze(tmp_path: Path, eks: SimulatedEks) -> None:
    """A freeze denies the cancel and allows the check."""
    data = copy.deepcopy(POLICY_DATA)
    window = {"from": "2020-01-01T00:00:00Z", "until": "2099-01-01T00:00:00Z"}
    data["eksgateway"]["freezes"] = [{"id": "year-end", "clusters": ["prod-*"], **window}]
    async with run_gateway(tmp_path, eks, data=data) as gateway:
        update_id = eks.rollback("prod-1", tags=PRODUCTION)
        decision = (await check(gateway, "prod-1", update_id)).decision
        assert not decision.allowed
        assert list(decision.rule_ids) == ["year-end"]


ADVICE: dict[str, tuple[dict[str, Any], float, bool]] = {
    "nodes-roll-back": ({}, 0, True),
    "the-control-plane-has-begun": ({"node_phase_s": 60}, 61, False),
    "cancelling": ({"update_status": "Cancelling"}, 0, False),
    "ended": ({"update_status": "Successful"}, 0, False),
    "a-type-that-eks-does-not-cancel": ({"update_type": "VersionUpdate"}, 0, False),
}


@pytest.mark.parametrize(("update", "after_s", "now"), ADVICE.values(), ids=ADVICE)
async def test_check_advises_whether_a_cancel_would_work_now(
    gateway: RunningGateway, update: dict[str, Any], after_s: float, now: bool
) -> None:
    """A check of an ended update succeeds."""
    update_id = gateway.eks.rollback("staging-1", **update)
    gateway.eks.advance(after_s)
    checked = await check(gateway, "staging-1", update_id)
    assert checked.cancellability.cancellable_now == now
    assert checked.cancellability.explanation
    assert checked.cancellability.next_step
    assert checked.update == await get_update(gateway, "staging-1", update_id)


async def test_check_shows_the_update_only_with_the_action_get(tmp_path: Path, eks: SimulatedEks) -> None:
    """The action `check` alone shows the decision, without update and advice."""
    grant = {"id": "checkers", "groups": ["test:checkers"], "actions": ["check"], **WHERE, "clusters": ["*"]}
    data = {"eksgateway": {"grants": [grant], "freezes": []}}
    async with run_gateway(tmp_path, eks, data=data) as gateway:
        update_id = eks.rollback("prod-1", tags=PRODUCTION)
        checked = await check(gateway, "prod-1", update_id, gateway.credentials("checker", "checkers"))
        assert not checked.decision.allowed
        assert list(checked.decision.reasons) == ["Grant checkers does not allow cancel."]
        assert not checked.HasField("update")
        assert not checked.HasField("cancellability")
