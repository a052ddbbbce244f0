"""The main job over a real socket: an update is cancelled, followed to its end, and sent for once."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from eksgateway.errors import OutcomeUnrecorded
from eksgateway.ledger.projection import OBSERVED
from eksgateway.model import Observation, Outcome
from eksgateway.v1 import cancellation_pb2 as cpb
from eksgateway.v1 import update_service_pb2 as pb
from eksgateway.v1.update_pb2 import ClusterRef
from support.gateway import Running, running
from support.ledger import until
from support.simulator import SimulatedEks
from support.wire import IDS, PRODUCTION, Gate, get_update, hooked, raising, recorded, refused, settled


async def test_an_allowed_cancel_is_recorded_sent_and_followed_to_its_end(gateway: Running) -> None:
    """The main job: allowed, recorded, forwarded, told as EKS answered it, and seen to its end."""
    update_id = gateway.eks.rollback("prod-1", tags=PRODUCTION)
    told = await gateway.cancel("prod-1", update_id, request_id="first")
    assert told.phase == cpb.CANCELLATION_PHASE_CANCELLING
    assert told.update.status == "Cancelling"
    (call,) = gateway.eks.calls("CancelUpdate")
    assert (call.cluster, call.update_id) == ("prod-1", update_id)
    assert call.token not in (None, told.cancellation_id, told.request_id)
    gateway.eks.advance(121)
    ended = await settled(gateway, cpb.CANCELLATION_PHASE_CANCELLED, request_id="first")
    assert ended.update.status == "Cancelled"
    assert ended.update.cancellation.status == "Successful"


async def test_an_outsider_is_denied_and_nothing_is_asked_of_eks(gateway: Running) -> None:
    """Denied at stage request, with the policy's own sentence: no EKS call of any kind."""
    update_id = gateway.eks.rollback("prod-1", tags=PRODUCTION)
    denied = await refused(gateway.cancel("prod-1", update_id, gateway.outsider))
    assert denied.told == ("PERMISSION_DENIED", "POLICY_DENIED")
    assert denied.metadata["reasons"] == "You have no grant on this cluster."
    assert gateway.eks.calls() == ()


async def test_an_answer_carries_its_ids_in_the_trailers(gateway: Running) -> None:
    """The request's id and the decision's, in a success as in an error."""
    update_id = gateway.eks.rollback("prod-1", tags=PRODUCTION)
    request = pb.CancelUpdateRequest(
        cluster=ClusterRef(name="prod-1"), update_id=update_id, request_id="first", reason="r", ticket="t"
    )
    call = gateway.updates.CancelUpdate(request, metadata=gateway.oncall)
    told = (await call).cancellation
    trailing = dict(await call.trailing_metadata())
    assert [trailing[name] for name in IDS] == ["first", told.decision.decision_id]
    again = await refused(gateway.cancel("prod-1", update_id, request_id="first", ticket=""))
    assert again.trailing["eksgateway-request-id"] == "first"


async def test_throttled_twice_and_then_accepted(gateway: Running) -> None:
    """The gateway tries again by itself, with the same token: one effect, and success is told."""
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
async def test_an_effect_without_an_answer(gateway: Running, fault: dict[str, object]) -> None:
    """Sent once on the wire and not answered: OUTCOME_UNKNOWN, then settled by looking, and said so."""
    update_id = gateway.eks.rollback("prod-1", tags=PRODUCTION)
    gateway.eks.fault("CancelUpdate", times=9, **fault)
    refusal = await refused(gateway.cancel("prod-1", update_id, request_id="first"))
    assert refusal.told == ("UNAVAILABLE", "OUTCOME_UNKNOWN")
    found = await settled(gateway, cpb.CANCELLATION_PHASE_CANCELLING, request_id="first")
    assert found.cancellation_id == refusal.metadata["cancellation_id"]
    assert found.phase_reason == OBSERVED
    assert len(gateway.eks.calls("CancelUpdate")) == 1


SELDOM = {"poll_s": 600, "poll_min_s": 600, "poll_max_s": 600, "follow_s": 600}


async def test_what_eks_has_just_answered_is_not_asked_again(tmp_path: Path, eks: SimulatedEks) -> None:
    """An accepted cancel costs three calls: following begins with what CancelUpdate answered."""
    async with running(tmp_path, eks, watch=SELDOM) as gateway:
        await gateway.cancel("prod-1", eks.rollback("prod-1", tags=PRODUCTION))
        other = eks.rollback("prod-2", tags=PRODUCTION)
        await get_update(gateway, "prod-2", other)  # a look at the first one would have come before
        calls = [call.operation for call in eks.calls() if call.cluster == "prod-1"]
        assert calls == ["DescribeCluster", "DescribeUpdate", "CancelUpdate"]


@pytest.mark.parametrize("status", ["InProgress", "Cancelling"], ids=["unanswered", "not-sent"])
async def test_what_eks_has_not_answered_is_looked_at_at_once(
    tmp_path: Path, eks: SimulatedEks, status: str
) -> None:
    """Without an answer to this cancel, the update is read again before anything rests."""
    async with running(tmp_path, eks, watch=SELDOM) as gateway:
        update_id = eks.rollback("prod-1", tags=PRODUCTION, update_status=status)
        eks.fault("CancelUpdate", drop="after")
        call = asyncio.ensure_future(gateway.cancel("prod-1", update_id))
        await asyncio.wait({call})
        assert (call.exception() is None) == (status == "Cancelling")
        await until(lambda: len(eks.calls("DescribeUpdate")) == 2)


async def test_what_could_not_be_recorded_is_looked_at_at_once(tmp_path: Path, eks: SimulatedEks) -> None:
    """An answer that is in no record is no beginning to follow from."""
    ledger = hooked(record_outcome=raising(OutcomeUnrecorded()))
    async with running(tmp_path, eks, watch=SELDOM, wrap_ledger=ledger) as gateway:
        refusal = await refused(gateway.cancel("prod-1", eks.rollback("prod-1", tags=PRODUCTION)))
        assert refusal.reason == "OUTCOME_UNRECORDED"
        await until(lambda: len(eks.calls("DescribeUpdate")) == 2)


async def test_what_was_seen_meanwhile_is_looked_at_at_once(tmp_path: Path, eks: SimulatedEks) -> None:
    """Somebody's read that saw more than the answer may be older than the answer."""

    async def see(_: str, outcome: Outcome) -> None:
        assert outcome.update is not None
        further = Observation(outcome.time, replace(outcome.update, status="Cancelling"))
        await gateway.gateway.ledger.record_observation(eks.ref("prod-1", outcome.update.id), further)

    async with running(tmp_path, eks, watch=SELDOM, wrap_ledger=hooked(record_outcome=see)) as gateway:
        told = await gateway.cancel("prod-1", eks.rollback("prod-1", tags=PRODUCTION, cancel_delay_s=3600))
        assert told.update.status == "Cancelling"
        await until(lambda: len(eks.calls("DescribeUpdate")) == 2)


async def test_an_answer_that_takes_too_long(tmp_path: Path, eks: SimulatedEks) -> None:
    """No answer within the time a cancel has on the wire: unknown, not tried again, settled by looking."""
    async with running(tmp_path, eks, eks={"cancel_read_timeout_s": 0.3}) as gateway:
        update_id = eks.rollback("prod-1", tags=PRODUCTION)
        eks.fault("CancelUpdate", delay_s=1)
        refusal = await refused(gateway.cancel("prod-1", update_id, request_id="first"))
        assert refusal.told == ("UNAVAILABLE", "OUTCOME_UNKNOWN")
        await settled(gateway, cpb.CANCELLATION_PHASE_CANCELLING, request_id="first")
        assert len(eks.calls("CancelUpdate")) == 1


async def test_an_answer_after_the_calls_own_time(tmp_path: Path, eks: SimulatedEks) -> None:
    """The caller is told that the outcome is unknown; the late answer settles it as answered."""
    async with running(tmp_path, eks, limits={"call_timeout_s": 4}) as gateway:
        update_id = eks.rollback("prod-1", tags=PRODUCTION, cancel_delay_s=3600)
        eks.fault("CancelUpdate", delay_s=6)
        refusal = await refused(gateway.cancel("prod-1", update_id, request_id="first"))
        assert refusal.told == ("UNAVAILABLE", "OUTCOME_UNKNOWN")
        found = await settled(gateway, cpb.CANCELLATION_PHASE_REQUESTED, request_id="first")
        assert found.cancellation_id == refusal.metadata["cancellation_id"]
        assert found.phase_reason != OBSERVED
        assert len(eks.calls("CancelUpdate")) == 1


async def test_a_client_that_leaves_during_the_reads(tmp_path: Path, eks: SimulatedEks) -> None:
    """Abandoned: no record, no CancelUpdate, and the request_id stays free."""
    gate = Gate()
    async with running(tmp_path, eks, wrap_eks=hooked(describe_update=gate)) as gateway:
        update_id = eks.rollback("prod-1", tags=PRODUCTION)
        call = asyncio.ensure_future(gateway.cancel("prod-1", update_id, request_id="first"))
        await until(lambda: gate.came)
        call.cancel()
        await asyncio.wait({call})
        await until(lambda: gate.left)
        gate.open()
        assert (await refused(recorded(gateway, request_id="first"))).reason == "CANCELLATION_NOT_FOUND"
        told = await gateway.cancel("prod-1", update_id, request_id="first", reason="another")
        assert told.reason == "another"
        assert len(eks.calls("CancelUpdate")) == 1


async def test_a_client_that_leaves_after_the_intent(tmp_path: Path, eks: SimulatedEks) -> None:
    """Finished, recorded and followed to the end with nobody watching."""
    gate = Gate()
    async with running(tmp_path, eks, wrap_eks=hooked(cancel_update=gate)) as gateway:
        update_id = eks.rollback("prod-1", tags=PRODUCTION)
        call = asyncio.ensure_future(gateway.cancel("prod-1", update_id, request_id="first"))
        await until(lambda: gate.came)
        call.cancel()
        await asyncio.wait({call})
        assert (await recorded(gateway, request_id="first")).phase == cpb.CANCELLATION_PHASE_OUTCOME_UNKNOWN
        gate.open()
        await until(lambda: eks.calls("CancelUpdate"))
        eks.advance(121)
        found = await settled(gateway, cpb.CANCELLATION_PHASE_CANCELLED, request_id="first")
        assert found.phase_reason != OBSERVED
        assert len(eks.calls("CancelUpdate")) == 1


async def test_a_pending_cancellation_is_taken_up_after_a_restart(tmp_path: Path, eks: SimulatedEks) -> None:
    """A gateway that starts on the ledger of one that stopped follows what is pending, and sends nothing."""
    async with running(tmp_path, eks) as gateway:
        update_id = eks.rollback("prod-1", tags=PRODUCTION)
        await gateway.cancel("prod-1", update_id, request_id="first")
        issuer = gateway.issuer
    async with running(tmp_path, eks, issuer=issuer) as gateway:
        found = await recorded(gateway, request_id="first")
        assert found.phase == cpb.CANCELLATION_PHASE_CANCELLING
        eks.advance(121)
        await settled(gateway, cpb.CANCELLATION_PHASE_CANCELLED, request_id="first")
        assert len(eks.calls("CancelUpdate")) == 1


@pytest.mark.parametrize("arrived", [True, False], ids=["that-arrived", "that-never-left"])
async def test_an_intent_without_an_outcome_after_a_restart(
    tmp_path: Path, eks: SimulatedEks, arrived: bool
) -> None:
    """A gateway that stopped mid-forward: OUTCOME_UNKNOWN, never sent again, settled by what is observed."""
    gate = Gate()  # never opened: the process ends while the cancel is on its way
    hold = hooked() if arrived else hooked(cancel_update=gate)
    async with running(tmp_path, eks, wrap_eks=hold, limits={"drain_s": 0.1}) as gateway:
        update_id = eks.rollback(
            "prod-1", tags=PRODUCTION, node_phase_s=600, control_plane_phase_s=60, node_replacing_s=60
        )
        eks.fault("CancelUpdate", delay_s=1)
        call = asyncio.ensure_future(gateway.cancel("prod-1", update_id, request_id="first"))
        await until(lambda: gate.came or eks.calls("CancelUpdate"))
        issuer = gateway.issuer
        call.cancel()
        await asyncio.wait({call})
    sent = eks.calls("CancelUpdate")
    assert len(sent) == arrived
    async with running(tmp_path, eks, issuer=issuer) as gateway:
        if not arrived:
            found = await recorded(gateway, request_id="first")
            assert found.phase == cpb.CANCELLATION_PHASE_OUTCOME_UNKNOWN
            again = await refused(gateway.cancel("prod-1", update_id, request_id="first"))
            assert again.told == ("UNAVAILABLE", "OUTCOME_UNKNOWN")
        eks.advance(661)
        ended = cpb.CANCELLATION_PHASE_CANCELLED if arrived else cpb.CANCELLATION_PHASE_COMPLETED_ANYWAY
        found = await settled(gateway, ended, request_id="first")
        assert found.phase_reason == OBSERVED
        assert eks.calls("CancelUpdate") == sent
