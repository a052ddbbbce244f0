"""WatchUpdate: the current state, every lasting change, heartbeats, and the end."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest

from eksgateway.v1 import cancellation_pb2 as cpb
from eksgateway.v1 import update_service_pb2 as pb
from support.gateway import WHERE, RunningGateway, run_gateway
from support.logs import capture_logs
from support.simulator import SimulatedEks
from support.waiting import wait_until
from support.wire import add_hooks, always_raise, expect_refusal

SNAPSHOT, CHANGE = pb.WATCH_KIND_SNAPSHOT, pb.WATCH_KIND_CHANGE
HEARTBEAT, FINAL = pb.WATCH_KIND_HEARTBEAT, pb.WATCH_KIND_FINAL


def summarize(messages: list[Any]) -> list[tuple[int, int, str]]:
    """Kind, sequence and status of each message that is not a heartbeat."""
    return [(m.kind, m.sequence, m.update.status) for m in messages if m.kind != HEARTBEAT]


def read_observe_time(message: Any) -> int:
    """observe_time in nanoseconds."""
    return int(message.observe_time.ToNanoseconds())


async def test_watch_sends_snapshot_changes_and_final(gateway: RunningGateway) -> None:
    """Sequence 1, 2, 3, …; each message has a bounded resume token of its own."""
    update_id = gateway.eks.rollback("prod-1")
    stream = gateway.watch("prod-1", update_id, gateway.viewer)
    messages = [await stream.read()]
    for status in ("Paused", "Resuming", "Successful"):
        gateway.eks.set_update("prod-1", update_id, status=status)
        messages.append(await stream.read())
    assert await stream.read() is grpc.aio.EOF
    assert await stream.code() is grpc.StatusCode.OK
    assert summarize(messages) == [
        (SNAPSHOT, 1, "InProgress"),
        (CHANGE, 2, "Paused"),
        (CHANGE, 3, "Resuming"),
        (FINAL, 4, "Successful"),
    ]
    assert len({message.resume_token for message in messages}) == 4
    assert all(0 < len(message.resume_token) <= 512 for message in messages)
    times = [read_observe_time(message) for message in messages]
    assert times == sorted(times)


async def test_watch_of_an_ended_update_sends_snapshot_and_final(gateway: RunningGateway) -> None:
    update_id = gateway.eks.rollback("prod-1", update_status="Failed")
    messages = [message async for message in gateway.watch("prod-1", update_id, gateway.viewer)]
    assert summarize(messages) == [(SNAPSHOT, 1, "Failed"), (FINAL, 2, "Failed")]


async def test_watch_passes_unknown_strings_through(gateway: RunningGateway) -> None:
    cancellation = {"status": "Postponed", "reason": "later"}
    update_id = gateway.eks.rollback(
        "prod-1", update_type="TimeTravel", update_status="Paused", cancellation=cancellation
    )
    stream = gateway.watch("prod-1", update_id, gateway.viewer)
    first = await stream.read()
    assert (first.kind, first.update.type, first.update.status) == (SNAPSHOT, "TimeTravel", "Paused")
    assert (first.update.cancellation.status, first.update.cancellation.reason) == ("Postponed", "later")
    gateway.eks.set_update("prod-1", update_id, status="Hibernating", type="SpaceTravel")
    second = await stream.read()
    assert (second.kind, second.update.type, second.update.status) == (CHANGE, "SpaceTravel", "Hibernating")
    stream.cancel()


async def test_heartbeats_show_the_age_of_the_last_state(tmp_path: Path, eks: SimulatedEks) -> None:
    """While EKS fails the stream stays open and observe_time stands still."""
    update_id = eks.rollback("prod-1")
    async with run_gateway(tmp_path, eks, watch={"heartbeat_s": 0.2}) as gateway:
        stream = gateway.watch("prod-1", update_id, gateway.viewer)
        first = await stream.read()
        beat = await stream.read()
        assert (beat.kind, beat.sequence, beat.update) == (HEARTBEAT, 1, first.update)
        assert read_observe_time(beat) > read_observe_time(first)
        eks.fault("DescribeUpdate", code="ServerException", status=500, times=1000)
        times = [read_observe_time(beat)]
        async with asyncio.timeout(60):
            while times[-3:] != times[-1:] * 3:  # a healthy update is polled between any two heartbeats
                beat = await stream.read()
                assert (beat.kind, beat.sequence) == (HEARTBEAT, 1)
                times.append(read_observe_time(beat))
        eks.clear_faults()
        eks.set_update("prod-1", update_id, status="Successful")
        while (last := await stream.read()).kind == HEARTBEAT:
            pass
        assert (last.kind, last.sequence) == (FINAL, 2)


@pytest.mark.parametrize(
    ("fault", "code", "reason"),
    [
        pytest.param(
            {"code": "ServerException", "status": 500}, "UNAVAILABLE", "EKS_UNAVAILABLE", id="server error"
        ),
        pytest.param(
            {"code": "ThrottlingException", "status": 429},
            "RESOURCE_EXHAUSTED",
            "EKS_THROTTLED",
            id="throttled",
        ),
        pytest.param(
            {"code": "AccessDeniedException", "status": 403},
            "INTERNAL",
            "UPSTREAM_CREDENTIALS",
            id="access denied",
        ),
    ],
)
async def test_watch_ends_when_eks_fails_before_the_first_state(
    gateway: RunningGateway, fault: dict[str, Any], code: str, reason: str
) -> None:
    update_id = gateway.eks.rollback("prod-1")
    gateway.eks.fault("DescribeUpdate", times=1000, **fault)
    error = await expect_refusal(gateway.watch("prod-1", update_id).read())
    assert error.status_and_reason == (code, reason)
    await wait_until(lambda: not gateway.gateway.watches.pollers)


@pytest.mark.parametrize("part", ["policy.decide", "eks.describe_cluster", "eks.describe_update"])
async def test_unexpected_exception_ends_a_watch_with_internal(
    tmp_path: Path, eks: SimulatedEks, part: str
) -> None:
    """The exception's text is in the log only."""
    update_id = eks.rollback("prod-1")
    name, _, method = part.partition(".")
    wrap: dict[str, Any] = {f"wrap_{name}": add_hooks(**{method: always_raise(RuntimeError("canary"))})}
    with capture_logs() as logs:
        async with run_gateway(tmp_path, eks, **wrap) as gateway:
            error = await expect_refusal(gateway.watch("prod-1", update_id).read())
            assert error.status_and_reason == ("INTERNAL", "INTERNAL")
            assert "canary" not in repr(error)
            assert "RuntimeError" not in repr(error)
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["rpc.unexpected"]


async def test_watch_of_an_unknown_update_is_not_found(gateway: RunningGateway) -> None:
    """No poller stays."""
    gateway.eks.rollback("prod-1")
    error = await expect_refusal(gateway.watch("prod-1", "00000000-0000-0000-0000-000000000000").read())
    assert error.status_and_reason == ("NOT_FOUND", "EKS_NOT_FOUND")
    assert not gateway.gateway.watches.pollers


def only(*actions: str) -> dict[str, Any]:
    """Policy data that grants these actions to viewers."""
    grant = {"id": "g", "groups": ["test:viewers"], "actions": list(actions), **WHERE, "clusters": ["*"]}
    return {"eksgateway": {"grants": [grant], "freezes": []}}


@pytest.mark.parametrize(
    ("actions", "allowed"),
    [
        pytest.param(("watch",), True, id="watch alone"),
        pytest.param(("get", "list", "check", "history"), False, id="all others"),
    ],
)
async def test_watch_needs_the_action_watch(
    tmp_path: Path, eks: SimulatedEks, actions: tuple[str, ...], allowed: bool
) -> None:
    update_id = eks.rollback("prod-1")
    async with run_gateway(tmp_path, eks, data=only(*actions)) as gateway:
        stream = gateway.watch("prod-1", update_id, gateway.viewer)
        if allowed:
            assert (await stream.read()).kind == SNAPSHOT
            stream.cancel()
        else:
            error = await expect_refusal(stream.read())
            assert error.status == "PERMISSION_DENIED"
            assert eks.calls() == ()


async def test_watch_shows_the_phase_of_the_newest_cancellation(gateway: RunningGateway) -> None:
    """To watchers before it, and after its end."""
    update_id = gateway.eks.rollback("staging-1", cancel_delay_s=60, node_replacing_s=60)
    early = gateway.watch("staging-1", update_id, gateway.viewer)
    phases = [(await early.read()).phase]
    await gateway.cancel("staging-1", update_id)
    phases.append((await early.read()).phase)
    for _ in range(2):
        gateway.eks.advance(61)
        phases.append((await early.read()).phase)
    assert phases == [
        cpb.CANCELLATION_PHASE_UNSPECIFIED,
        cpb.CANCELLATION_PHASE_REQUESTED,
        cpb.CANCELLATION_PHASE_CANCELLING,
        cpb.CANCELLATION_PHASE_CANCELLED,
    ]
    late = [message async for message in gateway.watch("staging-1", update_id, gateway.viewer)]
    assert {message.phase for message in late} == {cpb.CANCELLATION_PHASE_CANCELLED}


async def test_watch_shows_the_phase_of_a_refused_cancel(gateway: RunningGateway) -> None:
    update_id = gateway.eks.rollback("staging-1", node_phase_s=0)
    early = gateway.watch("staging-1", update_id, gateway.viewer)
    await early.read()
    with pytest.raises(grpc.aio.AioRpcError):
        await gateway.cancel("staging-1", update_id)
    assert (await early.read()).phase == cpb.CANCELLATION_PHASE_TOO_LATE
    late = gateway.watch("staging-1", update_id, gateway.viewer)
    assert (await late.read()).phase == cpb.CANCELLATION_PHASE_TOO_LATE
    early.cancel()
    late.cancel()
