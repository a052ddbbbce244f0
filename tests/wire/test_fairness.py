"""A flood by one caller, or by strangers, leaves other callers their turns.

`make bench ONLY=starve` measures the times.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from bench.flood import FloodConnection, Orders

from eksgateway.client import ErrorDetails
from eksgateway.rpc.listener import MAX_STREAMS
from eksgateway.v1 import update_pb2
from eksgateway.v1 import update_service_pb2 as pb
from support.gateway import RunningGateway, run_gateway
from support.logs import capture_logs
from support.simulator import SimulatedEks
from support.waiting import wait_until
from support.wire import Gate, add_hooks

CANCEL = "/eksgateway.v1.UpdateService/CancelUpdate"
HEALTH = "/grpc.health.v1.Health/"
REFLECTION = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
LIST_SERVICES = b"\x3a\x00"


def read_gauge(gateway: RunningGateway, name: str) -> float:
    value = gateway.gateway.metrics.registry.get_sample_value(f"eksgateway_{name}")
    assert value is not None
    return value


def cancel_of(update_id: str, cluster: str = "staging-1") -> bytes:
    request = pb.CancelUpdateRequest(cluster=update_pb2.ClusterRef(name=cluster), update_id=update_id)
    return request.SerializeToString()


@asynccontextmanager
async def flood(
    gateway: RunningGateway, authorization: str, messages: list[bytes], calls: int, path: str = CANCEL
) -> AsyncIterator[Any]:
    """Open two connections that send so many calls at once, regardless of the gateway's limits."""
    orders = Orders(
        address=gateway.address,
        path=path,
        authorization=authorization,
        messages=[message.hex() for message in messages],
        connections=2,
        calls=calls,
        kept_up=False,
        seconds=0,
    )
    host, _, port = gateway.address.rpartition(":")
    connections = [
        FloodConnection(orders, *await asyncio.open_connection(host, int(port)))
        for _ in range(orders.connections)
    ]
    reading = [asyncio.create_task(each.read()) for each in connections]
    for number in range(calls):
        connections[number % 2].call(number)
    try:
        yield connections
    finally:
        for connection in connections:
            connection.close()
        await asyncio.gather(*reading)


@pytest.mark.parametrize("who", ["strangers", "denied", "allowed"])
async def test_cancel_of_another_caller_overtakes_a_flood(
    tmp_path: Path, eks: SimulatedEks, who: str
) -> None:
    """Measured by the order in which calls end, not by time."""
    update_id, other = eks.rollback("staging-1"), eks.rollback("staging-2")
    async with run_gateway(tmp_path, eks) as gateway:
        callers = {"strangers": "", "denied": gateway.outsider[0][1], "allowed": gateway.oncall[0][1]}
        await gateway.cancel("staging-2", other, who=gateway.credentials("known", "oncall"), request_id="1")
        if who != "strangers":  # it is not a stranger, whose calls come last
            with pytest.raises(grpc.aio.AioRpcError):
                await gateway.cancel("staging-9", "unknown", who=(("authorization", callers[who]),))
        async with flood(gateway, callers[who], [cancel_of(update_id)], 2 * MAX_STREAMS) as connections:
            await wait_until(lambda: read_gauge(gateway, "waiting_calls") > 0)
            answer = await gateway.cancel(
                "staging-2", other, who=gateway.credentials("known", "oncall"), request_id="1"
            )
            assert answer.request_id == "1"
            ended = sum(connection.ended for connection in connections)
            assert ended < 2 * MAX_STREAMS


@pytest.mark.parametrize(
    ("path", "message"), [(f"{HEALTH}Check", b""), (f"{HEALTH}Watch", b""), (REFLECTION, LIST_SERVICES)]
)
async def test_cancel_overtakes_a_flood_of_health_and_reflection(
    tmp_path: Path, eks: SimulatedEks, path: str, message: bytes
) -> None:
    update_id = eks.rollback("staging-1")
    async with run_gateway(tmp_path, eks) as gateway:
        await gateway.cancel("staging-1", update_id, request_id="1")
        async with flood(gateway, "", [message], 2 * MAX_STREAMS, path) as connections:
            await wait_until(lambda: read_gauge(gateway, "waiting_calls") > 0)
            assert (await gateway.cancel("staging-1", update_id, request_id="1")).request_id == "1"
            assert sum(connection.ended for connection in connections) < 2 * MAX_STREAMS


async def test_streams_over_the_connection_limit_are_refused_by_core(gateway: RunningGateway) -> None:
    """Without a turn of the event loop."""
    async with flood(gateway, "", [b""], 6 * MAX_STREAMS) as connections:
        await wait_until(lambda: all(not connection.open for connection in connections))
        refused = sum(connection.refused for connection in connections)
        assert refused > 0
        assert sum(connection.ended for connection in connections) == 6 * MAX_STREAMS - refused


async def test_calls_over_a_callers_share_are_overloaded(tmp_path: Path, eks: SimulatedEks) -> None:
    """With a retry delay, one log line for all of them, and a count."""
    update_id = eks.rollback("staging-1")
    async with run_gateway(tmp_path, eks, limits={"calls_per_caller": 3}) as gateway:
        with pytest.raises(grpc.aio.AioRpcError):  # from now on the caller is known
            await gateway.cancel("staging-9", "unknown")
        request = pb.GetUpdateRequest(cluster=update_pb2.ClusterRef(name="staging-1"), update_id=update_id)
        with capture_logs() as logs:
            calls = [gateway.updates.GetUpdate(request, metadata=gateway.oncall) for _ in range(60)]
            answers = await asyncio.gather(*calls, return_exceptions=True)
            refused = [each for each in answers if isinstance(each, grpc.aio.AioRpcError)]
            assert 0 < len(refused) < 60
            for error in refused:
                assert (error.code().name, ErrorDetails.of(error).reason) == (
                    "RESOURCE_EXHAUSTED",
                    "OVERLOADED",
                )
                assert ErrorDetails.of(error).retry_s is not None
                assert {"eksgateway-request-id", "eksgateway-decision-id"} <= dict(
                    error.trailing_metadata() or ()
                ).keys()
            await wait_until(lambda: any(line["event"] == "admission.refused" for line in logs))

            def count_served() -> int:  # the line of the cancel above may be late too
                return sum(str(line.get("method")).endswith("GetUpdate") for line in logs)

            await wait_until(lambda: count_served() >= 60 - len(refused))
        lines = [line for line in logs if line["event"] == "admission.refused"]
        assert sum(line["calls"] for line in lines) <= len(refused)
        assert lines[0]["most"]["caller"] == "jwt:test:oncall"
        assert count_served() == 60 - len(refused)
        counted = gateway.gateway.metrics.registry.get_sample_value(
            "eksgateway_calls_refused_total", {"band": "read"}
        )
        assert counted == len(refused)


async def test_open_watches_hold_no_seats(gateway: RunningGateway, eks: SimulatedEks) -> None:
    update_id = eks.rollback("staging-1")
    watches = [gateway.watch("staging-1", update_id) for _ in range(50)]
    for watch in watches:
        await watch.read()
    await wait_until(lambda: read_gauge(gateway, "served_calls") == 0)
    assert read_gauge(gateway, "watchers") == 50
    for watch in watches:
        watch.cancel()


async def test_new_callers_of_one_connection_do_not_wait_for_eks_calls(
    tmp_path: Path, eks: SimulatedEks
) -> None:
    """Behind a proxy all callers share a connection."""
    update_id, gate = eks.rollback("staging-1"), Gate()
    request = pb.GetUpdateRequest(cluster=update_pb2.ClusterRef(name="staging-1"), update_id=update_id)
    limits = {"calls_per_caller": 2}  # also bounds the strangers of a connection
    async with run_gateway(
        tmp_path, eks, limits=limits, wrap_eks=add_hooks(describe_cluster=gate)
    ) as gateway:
        calls = []
        for number in range(6):
            who = gateway.credentials(f"new-{number}", "oncall")
            calls.append(asyncio.ensure_future(gateway.updates.GetUpdate(request, metadata=who, timeout=60)))
            await wait_until(lambda number=number: read_gauge(gateway, "served_calls") > number)  # type: ignore[misc]
        gate.open()
        assert {(await call).update.id for call in calls} == {update_id}
