"""CancelUpdate over a real socket: an update is cancelled, sent once, and followed to its end."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import pytest

from eksgateway.errors import LedgerUnavailable, OutcomeUnrecorded
from eksgateway.ledger.projection import OBSERVED
from eksgateway.model import Observation, Outcome
from eksgateway.v1 import cancellation_pb2 as cpb
from eksgateway.v1 import update_service_pb2 as pb
from eksgateway.v1.update_pb2 import ClusterRef
from support.gateway import RunningGateway, run_gateway
from support.simulator import SimulatedEks
from support.waiting import wait_until
from support.wire import (
    IDS,
    PRODUCTION,
    Gate,
    add_hooks,
    always_raise,
    expect_refusal,
    get_cancellation,
    get_update,
    wait_for_phase,
)


async def test_cancel_is_recorded_sent_and_followed_to_its_end(gateway: RunningGateway) -> None:
    update_id = gateway.eks.rollback("prod-1", tags=PRODUCTION)
    told = await gateway.cancel("prod-1", update_id, request_id="first")
    assert told.phase == cpb.CANCELLATION_PHASE_CANCELLING
    assert told.update.status == "Cancelling"
    (call,) = gateway.eks.calls("CancelUpdate")
    assert (call.cluster, call.update_id) == ("prod-1", update_id)
    assert call.token not in (None, told.cancellation_id, told.request_id)
    gateway.eks.advance(121)
    ended = await wait_for_phase(gateway, cpb.CANCELLATION_PHASE_CANCELLED, request_id="first")
    assert ended.update.status == "Cancelled"
    assert ended.update.cancellation.status == "Successful"


async def test_cancel_of_an_outsider_is_denied_without_eks_calls(gateway: RunningGateway) -> None:
    """Denied at stage request, with the policy's reasons."""
    update_id = gateway.eks.rollback("prod-1", tags=PRODUCTION)
    denied = await expect_refusal(gateway.cancel("prod-1", update_id, gateway.outsider))
    assert denied.status_and_reason == ("PERMISSION_DENIED", "POLICY_DENIED")
    assert denied.metadata["reasons"] == "You have no grant on this cluster."
    assert gateway.eks.calls() == ()


async def test_cancel_sends_request_and_decision_id_in_trailers(gateway: RunningGateway) -> None:
    """In a success and in an error."""
    update_id = gateway.eks.rollback("prod-1", tags=PRODUCTION)
    request = pb.CancelUpdateRequest(
        cluster=ClusterRef(name="prod-1"), update_id=update_id, request_id="first", reason="r", ticket="t"
    )
    call = gateway.updates.CancelUpdate(request, metadata=gateway.oncall)
    told = (await call).cancellation
    trailing = dict(await call.trailing_metadata())
    assert [trailing[name] for name in IDS] == ["first", told.decision.decision_id]
    again = await expect_refusal(gateway.cancel("prod-1", update_id, request_id="first", ticket=""))
    assert again.trailing["eksgateway-request-id"] == "first"


async def test_throttled_cancel_is_sent_again_with_its_token(gateway: RunningGateway) -> None:
    """EKS throttles twice, then accepts: one effect, and the call succeeds."""
    update_id = gateway.eks.rollback("prod-1", tags=PRODUCTION)
    gateway.eks.fault("CancelUpdate", code="ThrottlingException", times=2)
    told = await gateway.cancel("prod-1", update_id)
    assert told.phase == cpb.CANCELLATION_PHASE_CANCELLING
    sent = gateway.eks.calls("CancelUpdate")
    assert len(sent) == 3
    assert len({call.token for call in sent}) == 1


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param({"drop": "after"}, id="closed-after-the-effect"),
        pytest.param({"code": "ServerException", "effect": True}, id="5xx-after-the-effect"),
        pytest.param({"code": "ServiceUnavailableException", "effect": True}, id="503-after-the-effect"),
    ],
)
async def test_cancel_without_an_answer_is_unknown_then_settled_by_polling(
    gateway: RunningGateway, fault: dict[str, object]
) -> None:
    """Sent once; OUTCOME_UNKNOWN until a poll shows the effect."""
    update_id = gateway.eks.rollback("prod-1", tags=PRODUCTION)
    gateway.eks.fault("CancelUpdate", times=9, **fault)
    refusal = await expect_refusal(gateway.cancel("prod-1", update_id, request_id="first"))
    assert refusal.status_and_reason == ("UNAVAILABLE", "OUTCOME_UNKNOWN")
    found = await wait_for_phase(gateway, cpb.CANCELLATION_PHASE_CANCELLING, request_id="first")
    assert found.cancellation_id == refusal.metadata["cancellation_id"]
    assert found.phase_reason == OBSERVED
    assert len(gateway.eks.calls("CancelUpdate")) == 1


SELDOM = {"poll_s": 600, "poll_min_s": 600, "poll_max_s": 600, "follow_s": 600}


async def test_accepted_cancel_costs_three_eks_calls(tmp_path: Path, eks: SimulatedEks) -> None:
    """Following begins with CancelUpdate's own answer."""
    async with run_gateway(tmp_path, eks, watch=SELDOM) as gateway:
        await gateway.cancel("prod-1", eks.rollback("prod-1", tags=PRODUCTION))
        other = eks.rollback("prod-2", tags=PRODUCTION)
        await get_update(gateway, "prod-2", other)  # a poll of the first update would come before this
        calls = [call.operation for call in eks.calls() if call.cluster == "prod-1"]
        assert sorted(calls[:2]) == ["DescribeCluster", "DescribeUpdate"]
        assert calls[2:] == ["CancelUpdate"]


@pytest.mark.parametrize("status", ["InProgress", "Cancelling"], ids=["unanswered", "not-sent"])
async def test_unanswered_cancel_is_polled_at_once(tmp_path: Path, eks: SimulatedEks, status: str) -> None:
    async with run_gateway(tmp_path, eks, watch=SELDOM) as gateway:
        update_id = eks.rollback("prod-1", tags=PRODUCTION, update_status=status)
        eks.fault("CancelUpdate", drop="after")
        call = asyncio.ensure_future(gateway.cancel("prod-1", update_id))
        await asyncio.wait({call})
        assert (call.exception() is None) == (status == "Cancelling")
        await wait_until(lambda: len(eks.calls("DescribeUpdate")) == 2)


async def test_unrecorded_outcome_is_polled_at_once(tmp_path: Path, eks: SimulatedEks) -> None:
    """An answer that is not recorded does not start the following."""
    ledger = add_hooks(record_outcome=always_raise(OutcomeUnrecorded()))
    async with run_gateway(tmp_path, eks, watch=SELDOM, wrap_ledger=ledger) as gateway:
        refusal = await expect_refusal(gateway.cancel("prod-1", eks.rollback("prod-1", tags=PRODUCTION)))
        assert refusal.reason == "OUTCOME_UNRECORDED"
        await wait_until(lambda: len(eks.calls("DescribeUpdate")) == 2)


async def test_answer_older_than_a_read_is_polled_at_once(tmp_path: Path, eks: SimulatedEks) -> None:
    """Another caller's read may be newer than CancelUpdate's answer."""

    async def see(_: str, outcome: Outcome) -> None:
        assert outcome.update is not None
        further = Observation(outcome.time, replace(outcome.update, status="Cancelling"))
        await gateway.gateway.ledger.record_observation(eks.ref("prod-1", outcome.update.id), further)

    async with run_gateway(tmp_path, eks, watch=SELDOM, wrap_ledger=add_hooks(record_outcome=see)) as gateway:
        told = await gateway.cancel("prod-1", eks.rollback("prod-1", tags=PRODUCTION, cancel_delay_s=3600))
        assert told.update.status == "Cancelling"
        await wait_until(lambda: len(eks.calls("DescribeUpdate")) == 2)


async def test_cancel_past_its_read_timeout_is_unknown_and_not_repeated(
    tmp_path: Path, eks: SimulatedEks
) -> None:
    async with run_gateway(tmp_path, eks, eks={"cancel_read_timeout_s": 0.3}) as gateway:
        update_id = eks.rollback("prod-1", tags=PRODUCTION)
        eks.fault("CancelUpdate", delay_s=1)
        refusal = await expect_refusal(gateway.cancel("prod-1", update_id, request_id="first"))
        assert refusal.status_and_reason == ("UNAVAILABLE", "OUTCOME_UNKNOWN")
        await wait_for_phase(gateway, cpb.CANCELLATION_PHASE_CANCELLING, request_id="first")
        assert len(eks.calls("CancelUpdate")) == 1


async def test_answer_after_the_call_timeout_settles_the_outcome(tmp_path: Path, eks: SimulatedEks) -> None:
    """The caller gets OUTCOME_UNKNOWN; the late answer is recorded."""
    async with run_gateway(tmp_path, eks, limits={"call_timeout_s": 4}) as gateway:
        update_id = eks.rollback("prod-1", tags=PRODUCTION, cancel_delay_s=3600)
        eks.fault("CancelUpdate", delay_s=6)
        refusal = await expect_refusal(gateway.cancel("prod-1", update_id, request_id="first"))
        assert refusal.status_and_reason == ("UNAVAILABLE", "OUTCOME_UNKNOWN")
        found = await wait_for_phase(gateway, cpb.CANCELLATION_PHASE_REQUESTED, request_id="first")
        assert found.cancellation_id == refusal.metadata["cancellation_id"]
        assert found.phase_reason != OBSERVED
        assert len(eks.calls("CancelUpdate")) == 1


@pytest.mark.parametrize("recorded", [True, False])
async def test_call_timeout_during_the_record_of_the_intent(
    tmp_path: Path, eks: SimulatedEks, *, recorded: bool
) -> None:
    """OUTCOME_UNKNOWN with an id that exists, or LEDGER_UNAVAILABLE and nothing is sent."""

    async def answer_late(*_: object, **__: object) -> None:
        entered = time.monotonic()
        await wait_until(lambda: time.monotonic() > entered + 4)
        if not recorded:
            raise LedgerUnavailable

    late = add_hooks(commit_intent=answer_late)
    async with run_gateway(tmp_path, eks, wrap_ledger=late, limits={"call_timeout_s": 4}) as gateway:
        update_id = eks.rollback("prod-1", tags=PRODUCTION)
        refusal = await expect_refusal(gateway.cancel("prod-1", update_id, request_id="first"))
        if recorded:
            assert refusal.reason == "OUTCOME_UNKNOWN"
            found = await wait_for_phase(gateway, cpb.CANCELLATION_PHASE_CANCELLING, request_id="first")
            assert found.cancellation_id == refusal.metadata["cancellation_id"]
        else:
            assert refusal.reason == "LEDGER_UNAVAILABLE"
            assert eks.calls("CancelUpdate") == ()


async def test_client_that_leaves_before_the_intent_abandons_the_cancel(
    tmp_path: Path, eks: SimulatedEks
) -> None:
    """No record, no CancelUpdate, and the request_id stays free."""
    gate = Gate()
    async with run_gateway(tmp_path, eks, wrap_eks=add_hooks(describe_update=gate)) as gateway:
        update_id = eks.rollback("prod-1", tags=PRODUCTION)
        call = asyncio.ensure_future(gateway.cancel("prod-1", update_id, request_id="first"))
        await wait_until(lambda: gate.entered)
        call.cancel()
        await asyncio.wait({call})
        await wait_until(lambda: gate.left)
        gate.open()
        assert (
            await expect_refusal(get_cancellation(gateway, request_id="first"))
        ).reason == "CANCELLATION_NOT_FOUND"
        told = await gateway.cancel("prod-1", update_id, request_id="first", reason="another")
        assert told.reason == "another"
        assert len(eks.calls("CancelUpdate")) == 1


async def test_client_that_leaves_after_the_intent_does_not_stop_the_cancel(
    tmp_path: Path, eks: SimulatedEks
) -> None:
    """The cancel is sent, recorded and followed to its end."""
    gate = Gate()
    async with run_gateway(tmp_path, eks, wrap_eks=add_hooks(cancel_update=gate)) as gateway:
        update_id = eks.rollback("prod-1", tags=PRODUCTION)
        call = asyncio.ensure_future(gateway.cancel("prod-1", update_id, request_id="first"))
        await wait_until(lambda: gate.entered)
        call.cancel()
        await asyncio.wait({call})
        assert (
            await get_cancellation(gateway, request_id="first")
        ).phase == cpb.CANCELLATION_PHASE_OUTCOME_UNKNOWN
        gate.open()
        await wait_until(lambda: eks.calls("CancelUpdate"))
        eks.advance(121)
        found = await wait_for_phase(gateway, cpb.CANCELLATION_PHASE_CANCELLED, request_id="first")
        assert found.phase_reason != OBSERVED
        assert len(eks.calls("CancelUpdate")) == 1


async def test_restart_follows_pending_cancellations(tmp_path: Path, eks: SimulatedEks) -> None:
    """Nothing is sent again."""
    async with run_gateway(tmp_path, eks) as gateway:
        update_id = eks.rollback("prod-1", tags=PRODUCTION)
        await gateway.cancel("prod-1", update_id, request_id="first")
        issuer = gateway.issuer
    async with run_gateway(tmp_path, eks, issuer=issuer) as gateway:
        found = await get_cancellation(gateway, request_id="first")
        assert found.phase == cpb.CANCELLATION_PHASE_CANCELLING
        eks.advance(121)
        await wait_for_phase(gateway, cpb.CANCELLATION_PHASE_CANCELLED, request_id="first")
        assert len(eks.calls("CancelUpdate")) == 1


async def test_restart_polls_pending_cancellations_at_once(tmp_path: Path, eks: SimulatedEks) -> None:
    """Their updates may have ended meanwhile."""
    seldom = dict.fromkeys(("poll_s", "poll_min_s", "poll_max_s", "follow_s"), 600)
    async with run_gateway(tmp_path, eks, watch=seldom) as gateway:
        await gateway.cancel("prod-1", eks.rollback("prod-1", tags=PRODUCTION), request_id="first")
        issuer = gateway.issuer
    eks.advance(121)
    async with run_gateway(tmp_path, eks, issuer=issuer, watch=seldom) as gateway:
        await wait_for_phase(gateway, cpb.CANCELLATION_PHASE_CANCELLED, request_id="first")


@pytest.mark.parametrize("arrived", [True, False], ids=["that-arrived", "that-never-left"])
async def test_restart_settles_an_intent_without_outcome_by_polling(
    tmp_path: Path, eks: SimulatedEks, arrived: bool
) -> None:
    """OUTCOME_UNKNOWN, never sent again."""
    gate = Gate()  # never opened: the process ends during the forward
    hold = add_hooks() if arrived else add_hooks(cancel_update=gate)
    async with run_gateway(tmp_path, eks, wrap_eks=hold, limits={"drain_s": 0.1}) as gateway:
        update_id = eks.rollback(
            "prod-1", tags=PRODUCTION, node_phase_s=600, control_plane_phase_s=60, node_replacing_s=60
        )
        eks.fault("CancelUpdate", delay_s=1)
        call = asyncio.ensure_future(gateway.cancel("prod-1", update_id, request_id="first"))
        await wait_until(lambda: gate.entered or eks.calls("CancelUpdate"))
        issuer = gateway.issuer
        call.cancel()
        await asyncio.wait({call})
    sent = eks.calls("CancelUpdate")
    assert len(sent) == arrived
    async with run_gateway(tmp_path, eks, issuer=issuer) as gateway:
        if not arrived:
            found = await get_cancellation(gateway, request_id="first")
            assert found.phase == cpb.CANCELLATION_PHASE_OUTCOME_UNKNOWN
            again = await expect_refusal(gateway.cancel("prod-1", update_id, request_id="first"))
            assert again.status_and_reason == ("UNAVAILABLE", "OUTCOME_UNKNOWN")
        eks.advance(661)
        ended = cpb.CANCELLATION_PHASE_CANCELLED if arrived else cpb.CANCELLATION_PHASE_COMPLETED_ANYWAY
        found = await wait_for_phase(gateway, ended, request_id="first")
        assert found.phase_reason == OBSERVED
        assert eks.calls("CancelUpdate") == sent
