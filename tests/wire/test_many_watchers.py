"""Many watchers of one update cost as much as one, and do not affect each other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from eksgateway.v1 import update_service_pb2 as pb
from eksgateway.v1 import update_service_pb2_grpc
from eksgateway.v1.update_pb2 import ClusterRef
from support.gateway import RunningGateway, run_gateway
from support.logs import capture_logs
from support.simulator import SimulatedEks
from support.waiting import wait_until
from support.wire import expect_refusal

WRITE_TIMEOUT_S = 6.0  # longer than a change takes on a loaded machine


@asynccontextmanager
async def channels(gateway: RunningGateway, count: int, **options: int) -> AsyncIterator[list[Any]]:
    """Stubs of UpdateService, each over a connection of its own."""
    given = [("grpc.use_local_subchannel_pool", 1), *options.items()]
    async with AsyncExitStack() as stack:
        opened = [
            await stack.enter_async_context(grpc.aio.insecure_channel(gateway.address, options=given))
            for _ in range(count)
        ]
        yield [update_service_pb2_grpc.UpdateServiceStub(channel) for channel in opened]


def watch(stub: Any, gateway: RunningGateway, update_id: str) -> Any:
    request = pb.WatchUpdateRequest(cluster=ClusterRef(name="prod-1"), update_id=update_id)
    return stub.WatchUpdate(request, metadata=gateway.viewer, timeout=60)


async def read_all(streams: list[Any]) -> list[Any]:
    """The next message of each."""
    return list(await asyncio.gather(*(stream.read() for stream in streams)))


async def read_to_the_end(stream: Any) -> None:
    while await stream.read() is not grpc.aio.EOF:
        pass


@pytest.mark.parametrize("count", [1, 200])
async def test_two_hundred_watchers_cost_the_eks_calls_of_one(
    tmp_path: Path, eks: SimulatedEks, count: int
) -> None:
    poll_s = 0.2
    update_id = eks.rollback("prod-1")
    async with (
        run_gateway(tmp_path, eks, watch={"poll_s": poll_s}) as gateway,
        channels(gateway, 4) as stubs,
    ):
        began = time.monotonic()
        streams = [watch(stubs[number % 4], gateway, update_id) for number in range(count)]
        assert {message.kind for message in await read_all(streams)} == {pb.WATCH_KIND_SNAPSHOT}
        assert (gateway.gateway.watches.watchers, gateway.gateway.watches.pollers) == (count, 1)
        for status in ("Paused", "Resuming", "Paused", "Successful"):
            eks.set_update("prod-1", update_id, status=status)
            assert {message.update.status for message in await read_all(streams)} == {status}
        least_rest = poll_s * 0.9
        # In all: one call to authorize them, one for the first state, then one per poll interval.
        assert len(eks.calls("DescribeUpdate")) <= 2 + (time.monotonic() - began) / least_rest
        assert len(eks.calls("DescribeCluster")) == 1
        assert set(await read_all(streams)) == {grpc.aio.EOF}


# Larger than the flow-control window of a client that does not read.
LARGE = [{"type": f"Param{number}", "value": "x" * 1000} for number in range(200)]
NARROW = {"grpc.http2.lookahead_bytes": 1024, "grpc.http2.bdp_probe": 0}


async def test_client_that_leaves_during_a_message_is_logged_as_cancelled(
    tmp_path: Path, eks: SimulatedEks
) -> None:
    update_id = eks.rollback("prod-1", params=LARGE)
    with capture_logs() as logs:
        async with run_gateway(tmp_path, eks) as gateway:
            async with channels(gateway, 1, **NARROW) as (stub,):
                await watch(stub, gateway, update_id).read()
                reader = gateway.watch("prod-1", update_id, gateway.viewer)
                await reader.read()
                for number in range(10):
                    eks.set_update("prod-1", update_id, status=f"Paused{number}")
                    await reader.read()
            await wait_until(lambda: any(line["event"] == "rpc.call" for line in logs))
            reader.cancel()
            await wait_until(lambda: gateway.gateway.watches.watchers == 0)  # the drain could end it first
    assert {line["status"] for line in logs if line["event"] == "rpc.call"} == {"CANCELLED"}
    assert not [line for line in logs if line["log_level"] not in ("info", "debug")]


async def test_stalled_watcher_is_closed_and_delays_no_other(tmp_path: Path, eks: SimulatedEks) -> None:
    """It can read the reason."""
    update_id = eks.rollback("prod-1", params=LARGE)
    with capture_logs() as logs:
        async with (
            run_gateway(tmp_path, eks, watch={"write_timeout_s": WRITE_TIMEOUT_S}) as gateway,
            channels(gateway, 1, **NARROW) as (narrow_stub,),
        ):
            stalled = watch(narrow_stub, gateway, update_id)
            await stalled.read()
            reader = gateway.watch("prod-1", update_id, gateway.viewer)
            await reader.read()
            assert gateway.gateway.watches.watchers == 2
            changes = 0
            slowest = 0.0
            while gateway.gateway.watches.watchers == 2:
                changes += 1
                assert changes < 200, "the stalled watcher was never closed"
                eks.set_update("prod-1", update_id, status=f"Paused{changes}")
                began = time.monotonic()
                assert (await reader.read()).update.status == f"Paused{changes}"
                slowest = max(slowest, time.monotonic() - began)
            assert slowest < WRITE_TIMEOUT_S - 1, "a change waited for the stalled watcher"
            # Its quota is freed too, although its client still does not read.
            await wait_until(lambda: any(line.get("reason") == "WATCHER_TOO_SLOW" for line in logs))
            reader.cancel()
            refusal = await expect_refusal(read_to_the_end(stalled))
            assert refusal.status_and_reason == ("RESOURCE_EXHAUSTED", "WATCHER_TOO_SLOW")


async def test_watcher_that_never_reads_can_read_the_reason(tmp_path: Path, eks: SimulatedEks) -> None:
    update_id = eks.rollback("prod-1", params=LARGE)
    with capture_logs() as logs:
        async with (
            run_gateway(tmp_path, eks, watch={"write_timeout_s": WRITE_TIMEOUT_S}) as gateway,
            channels(gateway, 1, **NARROW) as (narrow_stub,),
        ):
            stalled = watch(narrow_stub, gateway, update_id)
            await wait_until(lambda: any(line.get("reason") == "WATCHER_TOO_SLOW" for line in logs))
            (call,) = (line for line in logs if line["event"] == "rpc.call")
            assert call["duration_ms"] < 2 * WRITE_TIMEOUT_S * 1000, "its status was waited for as well"
            refusal = await expect_refusal(read_to_the_end(stalled))
            assert refusal.reason == "WATCHER_TOO_SLOW"


async def test_cancelled_watches_leave_nothing_behind(tmp_path: Path, eks: SimulatedEks) -> None:
    """No watcher, no poller, and no logged error."""
    update_id = eks.rollback("prod-1")
    with capture_logs() as logs:
        async with (
            run_gateway(tmp_path, eks, watch={"heartbeat_s": 0.02}) as gateway,
            channels(gateway, 4) as stubs,
        ):
            for _ in range(5):
                streams = [watch(stubs[number % 4], gateway, update_id) for number in range(100)]
                await read_all(streams[:50])  # the others are cancelled at any point
                for stream in streams:
                    stream.cancel()
            watches = gateway.gateway.watches
            await wait_until(lambda: not watches.watchers and not watches.pollers)
            async with channels(gateway, 1) as (leaving,):
                await read_all([watch(leaving, gateway, update_id) for _ in range(50)])
            # The connection closed under those fifty.
            await wait_until(lambda: not watches.watchers and not watches.pollers)
            await wait_until(lambda: sum(line["event"] == "rpc.call" for line in logs) >= 300)
    assert {line["status"] for line in logs if line["event"] == "rpc.call"} == {"CANCELLED"}
    assert not [line for line in logs if line["log_level"] not in ("info", "debug")]
