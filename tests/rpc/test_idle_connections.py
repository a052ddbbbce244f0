"""Idle connections are ended when a listener has nearly as many as it accepts."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from eksgateway.rpc.call import Call
from eksgateway.rpc.idle_connections import IDLE_S, IdleConnections
from eksgateway.rpc.methods import METHODS
from support.clock import FakeClock
from support.gateway import run_gateway
from support.logs import capture_logs
from support.raw_http2 import connect_http2, frame_message
from support.simulator import SimulatedEks
from support.waiting import wait_until

CHECK = "/grpc.health.v1.Health/Check"
NO_CONTEXT: Any = None  # it is not used
LIVENESS = frame_message(b"\x0a\x08liveness")


@pytest.fixture
async def eks() -> Any:
    async with SimulatedEks() as simulated:
        yield simulated


def has_ipv6() -> bool:
    """Whether this machine has the IPv6 loopback address."""
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


def a_call(peer: str, path: str = "") -> Call:
    return Call(path=path, method=METHODS.get(path), peer=peer, metadata=(), decision_id="d", request_id="r")


class Listening:
    """A TCP server that keeps its connections, and its clients."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self.port = 0
        self.clients: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._accepted: list[Any] = []

    async def start(self, clients: int) -> None:
        server = await asyncio.start_server(lambda *ends: self._accepted.append(ends), "127.0.0.1", 0)
        self._stack.callback(server.close)
        self.port = server.sockets[0].getsockname()[1]
        for _ in range(clients):
            self.clients.append(await asyncio.open_connection("127.0.0.1", self.port))
            self._stack.callback(self.clients[-1][1].transport.abort)
        await wait_until(lambda: len(self._accepted) == clients)
        for _, writer in self._accepted:
            self._stack.callback(writer.transport.abort)

    def peer(self, number: int) -> str:
        host, port = self.clients[number][1].get_extra_info("sockname")
        return f"ipv4:{host}:{port}"

    async def wait_ended(self, count: int) -> set[int]:
        """The clients that were disconnected, once ``count`` have been."""
        await wait_until(lambda: sum(reader.at_eof() for reader, _ in self.clients) >= count)
        return {number for number, (reader, _) in enumerate(self.clients) if reader.at_eof()}


async def test_idle_connections_end_until_three_tenths_are_free() -> None:
    """Not those with a present or recent call, apart from health watches; and none while there is room."""
    clock = FakeClock()
    idle_connections = IdleConnections(clock)
    async with AsyncExitStack() as stack:
        here = Listening(stack)
        await here.start(clients=10)
        busy, lately = a_call(here.peer(0)), a_call(here.peer(1))
        await idle_connections.enter(busy, NO_CONTEXT)
        for number in range(2, 10):
            await idle_connections.enter(
                a_call(here.peer(number), "/grpc.health.v1.Health/Watch"), NO_CONTEXT
            )
        await idle_connections.end_idle([here.port], max_connections=10)
        await clock.advance(IDLE_S - 1)
        await idle_connections.enter(lately, NO_CONTEXT)
        idle_connections.leave(lately)
        await idle_connections.end_idle([here.port], max_connections=10)
        assert await here.wait_ended(0) == set()
        await clock.advance(1)
        await idle_connections.end_idle([here.port], max_connections=20)  # there is room
        assert await here.wait_ended(0) == set()
        await idle_connections.end_idle([here.port], max_connections=10)
        assert len(ended := await here.wait_ended(3)) == 3
        assert ended <= set(range(2, 10))


async def test_nothing_ends_while_a_busy_peer_is_unknown() -> None:
    """Busy connections would look idle."""
    clock = FakeClock()
    idle_connections = IdleConnections(clock)
    async with AsyncExitStack() as stack:
        here = Listening(stack)
        await here.start(clients=4)
        await idle_connections.enter(a_call("a name of another kind"), NO_CONTEXT)
        for _ in range(3):
            await idle_connections.end_idle([here.port], max_connections=4)
            await clock.advance(IDLE_S)
        assert await here.wait_ended(0) == set()


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", *(["[::1]"] if has_ipv6() else [])])
async def test_peers_are_named_as_core_names_them(tmp_path: Path, eks: SimulatedEks, host: str) -> None:
    """A connection with a call stays and one without ends, for each address family."""
    clock = FakeClock()
    idle_connections = IdleConnections(clock)
    listener = {"address": f"{host}:0", "mesh_terminates_tls": True}
    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(run_gateway(tmp_path, eks, listeners=[listener]))
        address = gateway.address.replace("[", "").replace("]", "")
        async with connect_http2(address) as used, connect_http2(address) as idle:
            with capture_logs() as logs:
                await used.answer(used.send(CHECK, LIVENESS))
                await wait_until(lambda: any(line["event"] == "rpc.call" for line in logs))
            (peer,) = (line["peer"] for line in logs if line["event"] == "rpc.call")
            await idle_connections.enter(a_call(peer), NO_CONTEXT)
            port = gateway.gateway.listeners[0].port
            await idle_connections.end_idle([port], max_connections=1)
            await clock.advance(IDLE_S)
            await idle_connections.end_idle([port], max_connections=1)
            async with asyncio.timeout(20):
                await idle.closed.wait()
            assert (await used.answer(used.send(CHECK, LIVENESS))).status == "0"
