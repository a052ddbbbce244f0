"""Every phase of a cancellation on the wire, and its record."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from eksgateway.ledger.projection import OBSERVED
from eksgateway.v1 import cancellation_pb2 as cpb
from support.gateway import RunningGateway, run_gateway
from support.simulator import SimulatedEks
from support.wire import PRODUCTION, add_hooks, expect_refusal, get_cancellation, wait_for_phase

WHY = "The nodes would not stop."


@dataclass(frozen=True)
class Way:
    """How to reach a phase: an update, faults of the cancel, then time and changes."""

    phase: str
    status: str  # of the update in the record
    update: dict[str, Any] = field(default_factory=dict)
    fault: dict[str, Any] = field(default_factory=dict)
    error: str = ""  # the reason of CancelUpdate's error, if any
    before_s: float = 0
    after_s: float = 0
    change: dict[str, Any] = field(default_factory=dict)
    why: str = ""  # phase_reason
    sent: bool = True


_FOREVER = {"node_replacing_s": 3600, "node_phase_s": 7200}
_COMPLETES = {"node_phase_s": 60, "control_plane_phase_s": 60, "on_cancel": "completes"}
_LATE = "cannot be cancelled: the control plane rollback has already begun."

WAYS = {
    "not-forwarded": Way(
        "NOT_FORWARDED",
        "InProgress",
        fault={"code": "AccessDeniedException"},
        error="UPSTREAM_CREDENTIALS",
        why="AWS refuses the gateway's own credentials",
        sent=False,
    ),
    "too-late": Way(
        "TOO_LATE", "InProgress", {"node_phase_s": 60}, error="EKS_INVALID_STATE", before_s=61, why=_LATE
    ),
    "too-late-as-an-invalid-request": Way(
        "TOO_LATE",
        "InProgress",
        {"node_phase_s": 60, "refusal": "InvalidRequestException"},
        error="EKS_INVALID_REQUEST",
        before_s=61,
        why=_LATE,
    ),
    "rejected": Way(
        "REJECTED",
        "InProgress",
        fault={"code": "InvalidStateException", "message": "Not in this state."},
        error="EKS_INVALID_STATE",
        why="Not in this state.",
    ),
    "cancelled": Way("CANCELLED", "Cancelled", after_s=121),
    "completed-anyway": Way("COMPLETED_ANYWAY", "Successful", _COMPLETES, after_s=121),
    "update-failed": Way("UPDATE_FAILED", "Failed", _COMPLETES | {"ends": "Failed"}, after_s=121),
    "cancelling": Way("CANCELLING", "Cancelling", _FOREVER),
    "cancellation-failed": Way(
        "CANCELLATION_FAILED",
        "InProgress",
        {"on_cancel": "fails", "node_replacing_s": 60, "cancel_reason": WHY},
        after_s=61,
        why=WHY,
    ),
    "requested": Way("REQUESTED", "InProgress", {"cancel_delay_s": 3600}),
    "requested-in-a-status-nobody-knows": Way("REQUESTED", "Pausing", _FOREVER, change={"status": "Pausing"}),
    "outcome-unknown": Way(
        "OUTCOME_UNKNOWN",
        "InProgress",
        fault={"drop": "before"},
        error="OUTCOME_UNKNOWN",
        why="The gateway is finding out",
    ),
    "observed-cancelled": Way(
        "CANCELLED",
        "Cancelled",
        fault={"drop": "after"},
        error="OUTCOME_UNKNOWN",
        after_s=121,
        why=OBSERVED,
    ),
    "observed-completed": Way(
        "COMPLETED_ANYWAY",
        "Successful",
        {"node_phase_s": 60, "control_plane_phase_s": 60},
        fault={"code": "ServerException"},
        error="OUTCOME_UNKNOWN",
        after_s=121,
        why=OBSERVED,
    ),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
async def test_cancel_reaches_the_phase_and_records_it(gateway: RunningGateway, way: Way) -> None:
    """Phase, phase_reason, update, decision, and whether it was sent."""
    eks = gateway.eks
    update_id = eks.rollback("prod-1", tags=PRODUCTION, **way.update)
    eks.advance(way.before_s)
    if way.fault:
        eks.fault("CancelUpdate", **way.fault)
    call = gateway.cancel("prod-1", update_id, request_id="first")
    if way.error:
        refusal = await expect_refusal(call)
        assert refusal.reason == way.error
        assert refusal.metadata["cancellation_id"]
    else:
        await call
    eks.advance(way.after_s)
    if way.change:
        eks.set_update("prod-1", update_id, **way.change)
    found = await wait_for_phase(gateway, _phase(way.phase), request_id="first", status=way.status)
    assert found.update.id == found.update_id == update_id
    assert way.why in found.phase_reason
    assert found.phase_reason
    assert way.why == OBSERVED or OBSERVED not in found.phase_reason
    assert found.HasField("forward_time") == way.sent
    assert found.create_time.ToDatetime() <= found.update_time.ToDatetime()
    assert found.caller == "jwt:test:oncall"
    assert (found.reason, found.ticket, found.update_type) == ("bad AMI", "OPS-1", "VersionRollback")
    assert found.decision.allowed
    assert list(found.decision.rule_ids) == ["oncall"]
    assert found.decision.policy_revision
    assert len(eks.calls("CancelUpdate")) == 1


def _phase(name: str) -> cpb.CancellationPhase.ValueType:
    return cpb.CancellationPhase.Value(f"CANCELLATION_PHASE_{name}")


async def test_cancel_of_a_cancelling_update_sends_nothing(gateway: RunningGateway) -> None:
    """OK, recorded and followed."""
    update_id = gateway.eks.rollback("prod-1", tags=PRODUCTION, update_status="Cancelling")
    told = await gateway.cancel("prod-1", update_id, request_id="first")
    assert told.phase == cpb.CANCELLATION_PHASE_CANCELLING
    assert not told.HasField("forward_time")
    assert told == await get_cancellation(gateway, cancellation_id=told.cancellation_id)
    assert told == await gateway.cancel("prod-1", update_id, request_id="first")
    gateway.eks.set_update("prod-1", update_id, status="Cancelled")
    found = await wait_for_phase(gateway, cpb.CANCELLATION_PHASE_CANCELLED, request_id="first")
    assert not found.HasField("forward_time")
    assert gateway.eks.calls("CancelUpdate") == ()


@pytest.mark.parametrize("status", ["Cancelled", "Successful", "Failed"])
async def test_cancel_of_an_ended_update_is_a_failed_precondition(
    gateway: RunningGateway, status: str
) -> None:
    """Nothing is sent, and the request_id stays free."""
    update_id = gateway.eks.rollback("prod-1", tags=PRODUCTION, update_status=status)
    refusal = await expect_refusal(gateway.cancel("prod-1", update_id, request_id="first"))
    assert refusal.status_and_reason == ("FAILED_PRECONDITION", "UPDATE_FINISHED")
    assert refusal.metadata["status"] == status
    assert refusal.subject == f"111122223333/us-east-1/prod-1/{update_id}"
    assert gateway.eks.calls("CancelUpdate") == ()
    assert (
        await expect_refusal(get_cancellation(gateway, request_id="first"))
    ).reason == "CANCELLATION_NOT_FOUND"


async def test_unreachable_eks_is_not_forwarded(tmp_path: Path, eks: SimulatedEks) -> None:
    """Tried until the decision is stale."""

    async def go_away(*_: Any) -> None:
        await eks.simulator.stop()

    async with run_gateway(
        tmp_path, eks, wrap_ledger=add_hooks(commit_intent=go_away), eks={"decision_max_age_s": 1}
    ) as gateway:
        update_id = eks.rollback("prod-1", tags=PRODUCTION)
        refusal = await expect_refusal(gateway.cancel("prod-1", update_id, request_id="first"))
        assert refusal.status_and_reason == ("ABORTED", "DECISION_STALE")
        found = await get_cancellation(gateway, cancellation_id=refusal.metadata["cancellation_id"])
        assert found.phase == cpb.CANCELLATION_PHASE_NOT_FORWARDED
        assert not found.HasField("forward_time")
        assert eks.calls("CancelUpdate") == ()
