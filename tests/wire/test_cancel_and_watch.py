"""CancelUpdateAndWatch: CancelUpdate's answer first, then WatchUpdate's messages."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest

from eksgateway.v1 import cancellation_pb2 as cpb
from eksgateway.v1 import cancellation_service_pb2 as history_pb
from eksgateway.v1 import update_service_pb2 as pb
from eksgateway.v1.update_pb2 import ClusterRef
from support.gateway import WHERE, RunningGateway, run_gateway
from support.ledger import list_events
from support.simulator import SimulatedEks
from support.waiting import wait_until
from support.wire import IDS, Gate, add_hooks, expect_refusal


def start(gateway: RunningGateway, update_id: str, **fields: Any) -> Any:
    """CancelUpdateAndWatch of staging-1 by the on-call engineer."""
    fields = {"request_id": "first"} | fields
    request = pb.CancelUpdateAndWatchRequest(
        cluster=ClusterRef(name="staging-1"), update_id=update_id, **fields
    )
    return gateway.updates.CancelUpdateAndWatch(request, metadata=gateway.oncall, timeout=60)


def watch_staging(gateway: RunningGateway, update_id: str) -> Any:
    """WatchUpdate of staging-1."""
    return gateway.watch("staging-1", update_id)


async def test_cancel_and_watch_sends_the_cancellation_then_the_watch(gateway: RunningGateway) -> None:
    """The first watch message is a SNAPSHOT after the cancel, with sequence 1."""
    update_id = gateway.eks.rollback("staging-1", node_replacing_s=60)
    stream = start(gateway, update_id)
    first = (await stream.read()).cancellation
    assert (first.request_id, first.phase) == ("first", cpb.CANCELLATION_PHASE_CANCELLING)
    snapshot = (await stream.read()).watch
    assert (snapshot.kind, snapshot.sequence) == (pb.WATCH_KIND_SNAPSHOT, 1)
    assert (snapshot.update.status, snapshot.phase) == ("Cancelling", cpb.CANCELLATION_PHASE_CANCELLING)
    gateway.eks.advance(61)
    final = (await stream.read()).watch
    assert (final.kind, final.sequence) == (pb.WATCH_KIND_FINAL, 2)
    assert (final.update.status, final.phase) == ("Cancelled", cpb.CANCELLATION_PHASE_CANCELLED)
    assert await stream.read() is grpc.aio.EOF
    assert await stream.code() is grpc.StatusCode.OK
    trailing = dict(await stream.trailing_metadata())
    assert [trailing[name] for name in IDS] == ["first", first.decision.decision_id]


async def test_repeat_returns_the_recorded_cancellation_and_watches(gateway: RunningGateway) -> None:
    """A client resumes in this way after its stream broke; nothing is sent twice."""
    update_id = gateway.eks.rollback("staging-1")
    broken = start(gateway, update_id)
    cancellation_id = (await broken.read()).cancellation.cancellation_id
    broken.cancel()
    gateway.eks.advance(86_400)
    messages = [message async for message in start(gateway, update_id)]
    assert messages[0].cancellation.cancellation_id == cancellation_id
    assert messages[-1].watch.kind == pb.WATCH_KIND_FINAL
    assert len(gateway.eks.calls("CancelUpdate")) == 1


@pytest.mark.parametrize("method", ["WatchUpdate", "CancelUpdateAndWatch"])
async def test_headers_are_sent_before_a_slow_first_message(
    tmp_path: Path, eks: SimulatedEks, method: str
) -> None:
    update_id, gate = eks.rollback("staging-1"), Gate()
    async with run_gateway(tmp_path, eks, wrap_eks=add_hooks(describe_cluster=gate)) as gateway:
        begin: Any = start if method == "CancelUpdateAndWatch" else watch_staging
        stream = begin(gateway, update_id)
        async with asyncio.timeout(20):
            await stream.initial_metadata()
        assert (gate.entered > 0, gate.left) == (True, 0)
        gate.open()
        assert await stream.read() is not grpc.aio.EOF
        stream.cancel()


async def test_cancel_and_watch_requires_a_request_id(gateway: RunningGateway) -> None:
    update_id = gateway.eks.rollback("staging-1")
    refusal = await expect_refusal(start(gateway, update_id, request_id="").read())
    assert refusal.status_and_reason == ("INVALID_ARGUMENT", "REQUEST_INVALID")
    assert list(refusal.fields) == ["request_id"]
    assert gateway.eks.calls() == ()


async def test_refusal_by_eks_is_the_same_error_as_of_cancel_update(gateway: RunningGateway) -> None:
    """A repeat by the other RPC gets the recorded error."""
    update_id = gateway.eks.rollback("staging-1", node_phase_s=0)
    streamed = await expect_refusal(start(gateway, update_id).read())
    unary = await expect_refusal(
        gateway.cancel("staging-1", update_id, request_id="first", reason="", ticket="")
    )
    assert (streamed.status_and_reason, streamed.message) == (unary.status_and_reason, unary.message)
    assert streamed.details["PreconditionFailure"] == unary.details["PreconditionFailure"]
    assert streamed.metadata["phase"] == unary.metadata["phase"] == "TOO_LATE"
    assert len(gateway.eks.calls("CancelUpdate")) == 1


def grants(**actions: str) -> dict[str, Any]:
    """One grant per name with these actions, separated by spaces. The grant `tagged` needs a tag."""
    made = []
    for name, given in actions.items():
        grant: dict[str, Any] = {
            "id": name,
            "groups": ["test:oncall"],
            "actions": given.split(),
            **WHERE,
            "clusters": ["*"],
        }
        if "cancel" in given:
            grant["update_types"] = ["VersionRollback"]
        if name == "tagged":
            grant["tags"] = {"environment": ["production"]}
        made.append(grant)
    return {"eksgateway": {"grants": made, "freezes": []}}


@pytest.mark.parametrize(
    ("data", "reads"),
    [
        pytest.param(grants(all="cancel"), False, id="cancel alone"),
        pytest.param(grants(all="watch get history"), False, id="watch alone"),
        pytest.param(grants(all="get list check history"), False, id="neither"),
        pytest.param(grants(all="cancel", tagged="watch"), True, id="watch denied by what EKS says"),
        pytest.param(grants(all="watch", tagged="cancel"), True, id="cancel denied by what EKS says"),
    ],
)
async def test_cancel_and_watch_without_watch_records_and_sends_nothing(
    tmp_path: Path, eks: SimulatedEks, data: dict[str, Any], reads: bool
) -> None:
    update_id = eks.rollback("staging-1")
    async with run_gateway(tmp_path, eks, data=data) as gateway:
        refusal = await expect_refusal(start(gateway, update_id).read())
        assert refusal.status_and_reason == ("PERMISSION_DENIED", "POLICY_DENIED")
    assert bool(eks.calls("DescribeUpdate")) is reads
    assert not eks.calls("CancelUpdate")
    assert list_events(tmp_path / "ledger.db") == []


async def test_cancel_and_watch_needs_cancel_and_watch_only(tmp_path: Path, eks: SimulatedEks) -> None:
    """Two grants add up."""
    update_id = eks.rollback("staging-1")
    async with run_gateway(tmp_path, eks, data=grants(one="cancel", other="watch")) as gateway:
        stream = start(gateway, update_id)
        assert (await stream.read()).cancellation.update_id == update_id
        assert (await stream.read()).watch.kind == pb.WATCH_KIND_SNAPSHOT
        stream.cancel()


async def test_client_that_leaves_ends_its_watch_only(gateway: RunningGateway) -> None:
    """The cancellation is followed to its end."""
    update_id = gateway.eks.rollback("staging-1")
    stream = start(gateway, update_id)
    await stream.read()
    stream.cancel()
    gateway.eks.advance(86_400)
    await wait_until(lambda: not gateway.gateway.watches.pollers)
    request = history_pb.GetCancellationRequest(request_id="first")
    kept = await gateway.history.GetCancellation(request, metadata=gateway.oncall)
    assert kept.cancellation.phase == cpb.CANCELLATION_PHASE_CANCELLED
