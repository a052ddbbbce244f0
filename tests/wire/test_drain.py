"""SIGTERM and SIGKILL to a gateway process: calls in flight are finished, or followed by the next process."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from eksgateway.rpc.methods import REFLECTION
from eksgateway.v1 import cancellation_pb2 as cpb
from eksgateway.v1 import update_service_pb2 as pb
from support.gateway_process import GatewayFolder, run_gateway_process
from support.simulator import SimulatedEks
from support.waiting import wait_until
from support.wire import expect_refusal, get_cancellation, wait_for_phase

DRAINED = ("UNAVAILABLE", "DRAINING")
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def read_to_the_end(stream: Any) -> None:
    while await stream.read() is not grpc.aio.EOF:
        pass


async def test_drain_finishes_calls_in_flight_and_refuses_new_ones(tmp_path: Path, eks: SimulatedEks) -> None:
    """Readiness goes off first; the process ends with 0."""
    update_id = eks.rollback("staging-1")
    place = GatewayFolder(tmp_path, eks.url)
    async with run_gateway_process(place) as served:
        stub: Any = health_pb2_grpc.HealthStub(served.channel)  # its stubs do not know Watch
        health = stub.Watch(health_pb2.HealthCheckRequest())
        while (await health.read()).status != SERVING:
            pass
        watches = [served.watch("staging-1", update_id, served.viewer) for _ in range(20)]
        assert {(await watch.read()).kind for watch in watches} == {pb.WATCH_KIND_SNAPSHOT}
        eks.fault("CancelUpdate", delay_s=8)
        cancelling = asyncio.ensure_future(served.cancel("staging-1", update_id, request_id="first"))
        await wait_until(lambda: bool(eks.calls("CancelUpdate")))

        served.process.terminate()
        assert (await health.read()).status == NOT_SERVING
        endings = [*map(read_to_the_end, watches), served.cancel("staging-1", update_id)]
        refusals = await asyncio.gather(*map(expect_refusal, endings))
        assert {refusal.status_and_reason for refusal in refusals} == {DRAINED}
        assert not cancelling.done()
        assert all(refusal.retry_s is not None for refusal in refusals)

        assert (await cancelling).phase == cpb.CANCELLATION_PHASE_CANCELLING
        began = time.monotonic()
        assert await served.program.end() == 0
        assert time.monotonic() - began < 15, "nothing was left to wait for, and it waited"
        assert [line["event"] for line in served.lines if line["level"] != "info"] == []

    async with run_gateway_process(place) as again:
        assert (await get_cancellation(again, request_id="first")).phase == cpb.CANCELLATION_PHASE_CANCELLING
        assert await again.end() == 0
    assert len(eks.calls("CancelUpdate")) == 1


async def test_drain_does_not_wait_for_health_and_reflection_streams(
    tmp_path: Path, eks: SimulatedEks
) -> None:
    async with run_gateway_process(GatewayFolder(tmp_path, eks.url)) as served:
        method = f"/{REFLECTION[0]}/ServerReflectionInfo"
        reflection: Any = served.channel.stream_stream(method)()
        await reflection.write(b":\x01*")  # ListServices
        assert await reflection.read()
        stub: Any = health_pb2_grpc.HealthStub(served.channel)
        assert await stub.Watch(health_pb2.HealthCheckRequest(service="liveness")).read()
        began = time.monotonic()
        assert await served.end() == 0
        assert time.monotonic() - began < 15


async def test_cancel_open_after_the_drain_is_unknown_then_observed(
    tmp_path: Path, eks: SimulatedEks
) -> None:
    """The next process polls, and sends nothing."""
    update_id = eks.rollback("staging-1")
    place = GatewayFolder(tmp_path, eks.url, limits={"drain_s": 1.0})
    async with run_gateway_process(place) as served:
        eks.fault("CancelUpdate", delay_s=19)
        cancelling = asyncio.ensure_future(served.cancel("staging-1", update_id, request_id="first"))
        await wait_until(lambda: bool(eks.calls("CancelUpdate")))
        began = time.monotonic()
        assert await served.end() == 0
        assert time.monotonic() - began < 14, "it waited for EKS longer than its drain time"
        assert (await expect_refusal(cancelling)).status_and_reason == ("UNAVAILABLE", "OUTCOME_UNKNOWN")

    eks.fault("DescribeUpdate", code="ServerException", status=500, times=1000)
    async with run_gateway_process(place) as again:
        found = await get_cancellation(again, request_id="first")
        assert found.phase == cpb.CANCELLATION_PHASE_OUTCOME_UNKNOWN
        eks.clear_faults()
        await wait_for_phase(again, cpb.CANCELLATION_PHASE_CANCELLING, request_id="first")
        eks.advance(86_400)
        await wait_for_phase(again, cpb.CANCELLATION_PHASE_CANCELLED, request_id="first")
        assert await again.end() == 0
    assert len(eks.calls("CancelUpdate")) == 1


async def test_kill_is_followed_by_the_next_process(tmp_path: Path, eks: SimulatedEks) -> None:
    """Nothing is sent again."""
    update_id = eks.rollback("staging-1")
    place = GatewayFolder(tmp_path, eks.url)
    async with run_gateway_process(place) as served:
        await served.cancel("staging-1", update_id, request_id="first")
        served.process.kill()
        await served.program.end()
    eks.advance(86_400)
    async with run_gateway_process(place) as again:
        ended = await wait_for_phase(again, cpb.CANCELLATION_PHASE_CANCELLED, request_id="first")
        assert ended.update.status == "Cancelled"
        repeated = await again.cancel("staging-1", update_id, request_id="first")
        assert repeated == ended
        assert await again.end() == 0
    assert len(eks.calls("CancelUpdate")) == 1


async def test_kill_during_the_forward_is_observed_and_not_sent_again(
    tmp_path: Path, eks: SimulatedEks
) -> None:
    """The next process has the intent only."""
    update_id = eks.rollback("staging-1")
    place = GatewayFolder(tmp_path, eks.url)
    async with run_gateway_process(place) as served:
        eks.fault("CancelUpdate", delay_s=5)
        cancelling = asyncio.ensure_future(served.cancel("staging-1", update_id, request_id="first"))
        await wait_until(lambda: bool(eks.calls("CancelUpdate")))
        served.process.kill()
        await served.program.end()
        with pytest.raises(grpc.aio.AioRpcError):
            await cancelling
    async with run_gateway_process(place) as again:
        await wait_for_phase(again, cpb.CANCELLATION_PHASE_CANCELLING, request_id="first")
        eks.advance(86_400)
        await wait_for_phase(again, cpb.CANCELLATION_PHASE_CANCELLED, request_id="first")
        assert await again.end() == 0
    assert len(eks.calls("CancelUpdate")) == 1
