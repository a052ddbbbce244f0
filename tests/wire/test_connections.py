"""Connections: idle and dead ones end, pings are allowed, and their number is bounded."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from support.gateway import run_gateway
from support.logs import capture_logs
from support.raw_http2 import Http2Connection, connect_http2, frame_message
from support.simulator import SimulatedEks
from support.tcp_proxy import TcpProxy
from support.waiting import wait_until
from support.wire import PRODUCTION

WATCH = "/grpc.health.v1.Health/Watch"
REFLECT = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
LIVENESS = frame_message(health_pb2.HealthCheckRequest(service="liveness").SerializeToString())
LIST = frame_message(reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString())


async def first_message(http: Http2Connection, number: int) -> None:
    """Wait for the first message of a stream. Fails if the stream ends."""
    answer = http.answers[number]
    await wait_until(lambda: bool(answer.data) or answer.ended.is_set())
    assert answer.data, answer.reason


async def test_idle_connection_ends_and_one_with_a_watch_stays(tmp_path: Path, eks: SimulatedEks) -> None:
    async with (
        run_gateway(tmp_path, eks, limits={"connection_idle_s": 0.5}) as gateway,
        connect_http2(gateway.address) as idle,
        connect_http2(gateway.address) as used,
    ):
        watch = used.send(WATCH, LIVENESS)
        await first_message(used, watch)
        async with asyncio.timeout(20):
            await idle.closed.wait()
        assert idle.goaways[-1][1] == b"connection idle"
        assert not used.closed.is_set()
        assert not used.answers[watch].ended.is_set()


@pytest.mark.parametrize("path", [WATCH, REFLECT])
async def test_keepalive_ends_a_dead_client_and_keeps_a_silent_one(
    tmp_path: Path, eks: SimulatedEks, path: str
) -> None:
    """An unanswered ping ends the connection, whatever TCP reports."""
    body = LIVENESS if path == WATCH else LIST
    limits = {"keepalive_s": 0.5, "keepalive_timeout_s": 0.5}
    with capture_logs() as logs:
        async with (
            run_gateway(tmp_path, eks, limits=limits) as gateway,
            TcpProxy(gateway.address) as proxy,
            connect_http2(proxy.address) as dead,
            connect_http2(gateway.address) as silent,
        ):
            for http in (dead, silent):
                await first_message(http, http.send(path, body, end=False))
            proxy.passing.clear()  # from here on, data from the gateway is lost
            await wait_until(lambda: any(line["event"] == "rpc.call" for line in logs))
            (call,) = (line for line in logs if line["event"] == "rpc.call")
            assert call["method"] == path
            assert not silent.closed.is_set()


@pytest.mark.parametrize("calls", [True, False], ids=["with a call", "without calls"])
async def test_pings_faster_than_the_limit_end_the_connection(
    tmp_path: Path, eks: SimulatedEks, calls: bool
) -> None:
    """Slower ones are answered, as grpc-go sends them with PermitWithoutStream."""
    async with (
        run_gateway(tmp_path, eks, limits={"client_ping_s": 0.5}) as gateway,
        connect_http2(gateway.address) as http,
    ):
        if calls:
            await first_message(http, http.send(WATCH, LIVENESS, end=False))
        for _ in range(6):
            http.ping()
            await asyncio.sleep(0.5)  # the tested interval
        await wait_until(lambda: http.acknowledged == 6 or http.closed.is_set())
        assert (http.goaways, http.closed.is_set()) == ([], False)
        for _ in range(6):
            http.ping()
        async with asyncio.timeout(20):
            await http.closed.wait()
        # The connection may be reset before this text is read.
        assert http.goaways == [] or http.goaways[-1][1] == b"too_many_pings"


async def test_client_with_keepalive_keeps_its_connection(tmp_path: Path, eks: SimulatedEks) -> None:
    options = [
        ("grpc.keepalive_time_ms", 500),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    async with (
        run_gateway(tmp_path, eks, limits={"client_ping_s": 0.5}) as gateway,
        TcpProxy(gateway.address) as proxy,
        grpc.aio.insecure_channel(proxy.address, options=options) as channel,
    ):
        health: Any = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service="liveness")
        await health.Check(request, timeout=20)
        await asyncio.sleep(4)  # eight pings
        await health.Check(request, timeout=20)
        assert proxy.connections == 1


@pytest.mark.parametrize("path", [WATCH, REFLECT])
async def test_every_connection_may_have_one_open_stream(
    tmp_path: Path, eks: SimulatedEks, path: str
) -> None:
    """gRPC's client-side health checking needs it."""
    body = LIVENESS if path == WATCH else LIST
    limits = {"open_streams": 4, "open_streams_per_connection": 3}
    async with run_gateway(tmp_path, eks, limits=limits) as gateway, AsyncExitStack() as stack:
        greedy = await stack.enter_async_context(connect_http2(gateway.address))
        held = [greedy.send(path, body, end=False) for _ in range(3)]
        for number in held:
            await first_message(greedy, number)
        refused = await greedy.answer(greedy.send(path, body, end=False))
        assert refused.reason == "OVERLOADED"
        for _ in range(10):
            other = await stack.enter_async_context(connect_http2(gateway.address))
            await first_message(other, other.send(path, body, end=False))
        greedy.h2.reset_stream(held[0])
        greedy.flush()
        # Still more than `open_streams` are held in all, so its second quota is not given again.
        again = await greedy.answer(greedy.send(path, body, end=False))
        assert again.reason == "OVERLOADED"


async def test_connection_over_the_limit_is_refused_at_once(tmp_path: Path, eks: SimulatedEks) -> None:
    """Other connections go on, and one that ends is replaced."""
    update_id = eks.rollback("prod-1", tags=PRODUCTION)
    async with run_gateway(tmp_path, eks, limits={"connections": 5}) as gateway, AsyncExitStack() as stack:
        await gateway.cancel("prod-1", update_id, request_id="first")
        others = [await stack.enter_async_context(connect_http2(gateway.address)) for _ in range(4)]
        for http in others:
            assert (await http.answer(http.send(WATCH.replace("Watch", "Check"), LIVENESS))).status == "0"
        async with connect_http2(gateway.address) as sixth, asyncio.timeout(20):
            await sixth.closed.wait()
        assert (await gateway.cancel("prod-1", update_id, request_id="first")).request_id == "first"
        others[0].close()
        room: Any = grpc.aio.insecure_channel(gateway.address)
        async with room, asyncio.timeout(20):
            await room.channel_ready()  # it retries until the gateway has seen the end
