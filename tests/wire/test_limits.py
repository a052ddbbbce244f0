"""Limits of sizes, calls and watches."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from eksgateway.v1 import cancellation_pb2 as cpb
from eksgateway.v1 import update_pb2
from eksgateway.v1 import update_service_pb2 as pb
from support.gateway import RunningGateway, run_gateway
from support.logs import capture_logs
from support.raw_http2 import connect_http2, frame_message
from support.simulator import SimulatedEks
from support.waiting import wait_until
from support.wire import Gate, add_hooks, check, expect_refusal

PRODUCTION = {"environment": "production"}
PATH = "/eksgateway.v1.UpdateService/CancelUpdate"


async def send_raw(gateway: RunningGateway, message: bytes, metadata: Any, path: str = PATH) -> None:
    """Call a method with raw bytes; raises its error."""
    call: Any = gateway.channel.unary_unary(path)
    await call(message, metadata=metadata, timeout=20)


async def test_malformed_message_is_parsed_only_after_authentication(gateway: RunningGateway) -> None:
    for metadata, status, reason in (
        ((), "UNAUTHENTICATED", "CREDENTIALS_MISSING"),
        (gateway.oncall, "INVALID_ARGUMENT", "REQUEST_INVALID"),
    ):
        refusal = await expect_refusal(send_raw(gateway, b"\xff\xff\xff garbage", metadata))
        assert refusal.status_and_reason == (status, reason)
        assert "garbage" not in refusal.message


async def test_message_over_the_limit_is_refused_with_a_reason(gateway: RunningGateway) -> None:
    message = pb.CancelUpdateRequest(reason="x" * 65_536).SerializeToString()
    refusal = await expect_refusal(send_raw(gateway, message, gateway.oncall))
    assert refusal.status_and_reason == ("RESOURCE_EXHAUSTED", "REQUEST_TOO_LARGE")


async def test_message_far_over_the_limit_is_refused_by_core(gateway: RunningGateway) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await send_raw(gateway, b"x" * 300_000, gateway.oncall)
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_metadata_over_the_limit_is_refused_with_a_reason(gateway: RunningGateway) -> None:
    """Credentials are counted apart."""
    metadata = (*gateway.oncall, *((f"x-{n}", "y" * 1000) for n in range(9)))
    refusal = await expect_refusal(send_raw(gateway, b"", metadata))
    assert refusal.status_and_reason == ("RESOURCE_EXHAUSTED", "REQUEST_TOO_LARGE")


async def test_unknown_path_is_unimplemented(gateway: RunningGateway) -> None:
    """With an ErrorInfo, with and without credentials."""
    for metadata in ((), gateway.oncall):
        refusal = await expect_refusal(
            send_raw(gateway, b"", metadata, "/eksgateway.v1.UpdateService/DeleteCluster")
        )
        assert refusal.status_and_reason == ("UNIMPLEMENTED", "METHOD_UNKNOWN")


async def test_watches_over_a_callers_quota_are_overloaded(tmp_path: Path, eks: SimulatedEks) -> None:
    """Other callers and cancels are not affected."""
    update_id = eks.rollback("prod-1", tags=PRODUCTION)
    async with (
        run_gateway(tmp_path, eks, limits={"watches_per_caller": 3}) as gateway,
        AsyncExitStack() as stack,
    ):
        for _ in range(3):
            stream = gateway.watch("prod-1", update_id)
            stack.callback(stream.cancel)
            await stream.read()
        refusal = await expect_refusal(gateway.watch("prod-1", update_id).read())
        assert refusal.status_and_reason == ("RESOURCE_EXHAUSTED", "OVERLOADED")
        assert refusal.retry_s is not None
        other = gateway.watch("prod-1", update_id, gateway.viewer)
        stack.callback(other.cancel)
        assert (await other.read()).kind == pb.WATCH_KIND_SNAPSHOT
        assert (await gateway.cancel("prod-1", update_id)).update.status == "Cancelling"


async def test_ended_watch_frees_its_quota(tmp_path: Path, eks: SimulatedEks) -> None:
    update_id = eks.rollback("prod-1", tags=PRODUCTION)
    async with run_gateway(tmp_path, eks, limits={"watches_per_caller": 1}) as gateway:
        for _ in range(5):
            stream = gateway.watch("prod-1", update_id)
            assert (await stream.read()).kind == pb.WATCH_KIND_SNAPSHOT
            stream.cancel()
            await wait_until(lambda: not gateway.gateway.watches.watchers)


async def test_calls_over_the_quota_of_all_are_overloaded(tmp_path: Path, eks: SimulatedEks) -> None:
    """Before authentication."""
    update_id = eks.rollback("prod-1", tags=PRODUCTION)
    request = pb.GetUpdateRequest(cluster=update_pb2.ClusterRef(name="prod-1"), update_id=update_id)
    eks.fault("DescribeCluster", delay_s=1, times=1)
    async with run_gateway(tmp_path, eks, limits={"calls": 1}) as gateway:
        first = gateway.updates.GetUpdate(request, metadata=gateway.oncall)
        await wait_until(lambda: bool(eks.calls("DescribeCluster")))
        refusal = await expect_refusal(gateway.updates.GetUpdate(request, metadata=gateway.viewer))
        assert refusal.reason == "OVERLOADED"
        assert (await first).update.id == update_id


async def test_call_past_its_timeout_ends_and_frees_its_quota(tmp_path: Path, eks: SimulatedEks) -> None:
    update_id, gate = eks.rollback("prod-1", tags=PRODUCTION), Gate()
    limits = {"call_timeout_s": 0.3, "calls": 1}
    async with run_gateway(
        tmp_path, eks, limits=limits, wrap_eks=add_hooks(describe_cluster=gate)
    ) as gateway:
        for _ in range(2):
            told = await expect_refusal(check(gateway, "prod-1", update_id))
            assert told.status_and_reason == ("UNAVAILABLE", "EKS_UNAVAILABLE")
        await wait_until(lambda: gate.left == gate.entered == 2)


@pytest.mark.parametrize(
    ("who", "told"),
    [("nobody", "CREDENTIALS_MISSING"), ("viewer", "REQUEST_INVALID")],
)
async def test_call_without_a_message_ends(tmp_path: Path, eks: SimulatedEks, who: str, told: str) -> None:
    async with run_gateway(tmp_path, eks, limits={"message_timeout_s": 0.3}) as gateway:
        metadata = () if who == "nobody" else gateway.viewer
        for path in (PATH, PATH.replace("CancelUpdate", "WatchUpdate")):
            silent: Any = gateway.channel.stream_stream(path)(metadata=metadata, timeout=20)
            assert (await expect_refusal(silent.read())).reason == told
        half: Any = gateway.channel.stream_unary(PATH)(iter([]), metadata=metadata, timeout=20)
        assert (await expect_refusal(half)).reason == told


@pytest.mark.parametrize("method", ["CancelUpdate", "WatchUpdate"])
async def test_client_that_leaves_before_its_message_is_logged_as_cancelled(
    gateway: RunningGateway, method: str
) -> None:
    open_call: Any = gateway.channel.stream_stream(PATH.replace("CancelUpdate", method))
    with capture_logs() as logs:
        async with asyncio.timeout(30):
            while len(told := [line["status"] for line in logs if line["event"] == "rpc.call"]) < 30:
                left = open_call(metadata=gateway.oncall)
                for _ in range(50):
                    await asyncio.sleep(0)
                left.cancel()
    assert set(told) == {"CANCELLED"}


async def test_call_without_a_message_counts_in_the_quota(tmp_path: Path, eks: SimulatedEks) -> None:
    async with run_gateway(tmp_path, eks, limits={"calls_per_caller": 1}) as gateway:

        def send() -> Any:
            return gateway.channel.stream_stream(PATH)(metadata=gateway.oncall, timeout=20)

        async def read_reason() -> str:
            return (await expect_refusal(send_raw(gateway, b"garbage", gateway.oncall))).reason

        silent = send()
        async with asyncio.timeout(60):
            while await read_reason() != "OVERLOADED":
                if silent.done():  # it was refused while the other call held the quota
                    silent = send()
            silent.cancel()
            while await read_reason() != "REQUEST_INVALID":
                pass


async def test_health_streams_do_not_count_as_watches(tmp_path: Path, eks: SimulatedEks) -> None:
    """Health checks still answer."""
    update_id = eks.rollback("prod-1", tags=PRODUCTION)
    limits = {"watches": 1, "open_streams_per_connection": 3}
    request = health_pb2.HealthCheckRequest(service="liveness")
    async with run_gateway(tmp_path, eks, limits=limits) as gateway, AsyncExitStack() as stack:
        health: Any = health_pb2_grpc.HealthStub(gateway.channel)
        for _ in range(3):
            stranger = health.Watch(request)
            stack.callback(stranger.cancel)
            await stranger.read()
        refusal = await expect_refusal(health.Watch(request).read())
        assert refusal.reason == "OVERLOADED"
        assert (await health.Check(request)).status == health_pb2.HealthCheckResponse.SERVING
        watch = gateway.watch("prod-1", update_id)
        stack.callback(watch.cancel)
        assert (await watch.read()).kind == pb.WATCH_KIND_SNAPSHOT


async def test_silent_health_checks_do_not_block_other_connections(tmp_path: Path, eks: SimulatedEks) -> None:
    limits = {"calls": 3, "calls_per_caller": 3}
    async with run_gateway(tmp_path, eks, limits=limits) as gateway, AsyncExitStack() as stack:
        silent = await stack.enter_async_context(connect_http2(gateway.address))
        for _ in range(3):
            silent.send("/grpc.health.v1.Health/Check", end=False)
        metrics = gateway.gateway.metrics.registry
        await wait_until(lambda: metrics.get_sample_value("eksgateway_served_calls") == 3)
        refused = await silent.answer(silent.send("/grpc.health.v1.Health/Check", frame_message(b"")))
        assert refused.reason == "OVERLOADED"
        health: Any = health_pb2_grpc.HealthStub(gateway.channel)
        answer = await health.Check(health_pb2.HealthCheckRequest(service="liveness"), timeout=60)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


def cancel_and_watch(gateway: RunningGateway, update_id: str) -> Any:
    """CancelUpdateAndWatch of staging-1 by the on-call engineer."""
    request = pb.CancelUpdateAndWatchRequest(
        cluster=update_pb2.ClusterRef(name="staging-1"), update_id=update_id, request_id="first"
    )
    return gateway.updates.CancelUpdateAndWatch(request, metadata=gateway.oncall, timeout=60)


@pytest.mark.parametrize("held", ["watches", "watches_per_caller"])
async def test_cancel_and_watch_cancels_without_a_free_watch(
    tmp_path: Path, eks: SimulatedEks, held: str
) -> None:
    """The cancellation is sent, then OVERLOADED."""
    watched, update_id = eks.rollback("prod-1", tags=PRODUCTION), eks.rollback("staging-1")
    async with run_gateway(tmp_path, eks, limits={held: 1}) as gateway:
        watch = gateway.watch("prod-1", watched)
        await watch.read()
        stream = cancel_and_watch(gateway, update_id)
        assert (await stream.read()).cancellation.phase == cpb.CANCELLATION_PHASE_CANCELLING
        assert (await expect_refusal(stream.read())).status_and_reason == (
            "RESOURCE_EXHAUSTED",
            "OVERLOADED",
        )
        watch.cancel()
        await wait_until(lambda: not gateway.gateway.watches.watchers)
        again = cancel_and_watch(gateway, update_id)
        await again.read()
        assert (await again.read()).watch.kind == pb.WATCH_KIND_SNAPSHOT
        again.cancel()


async def test_cancel_and_watch_frees_its_call_after_the_cancellation(
    tmp_path: Path, eks: SimulatedEks
) -> None:
    update_id = eks.rollback("staging-1")
    request = pb.GetUpdateRequest(cluster=update_pb2.ClusterRef(name="staging-1"), update_id=update_id)
    async with run_gateway(tmp_path, eks, limits={"calls": 1, "watches": 1}) as gateway:
        for _ in range(2):  # and the quota of its watch, at its end
            stream = cancel_and_watch(gateway, update_id)
            await stream.read()
            assert (await stream.read()).watch.kind == pb.WATCH_KIND_SNAPSHOT
            answer = await gateway.updates.GetUpdate(request, metadata=gateway.oncall, timeout=20)
            assert answer.update.id == update_id
            stream.cancel()
            await wait_until(lambda: not gateway.gateway.watches.watchers)
