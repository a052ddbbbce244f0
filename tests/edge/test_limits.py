"""What the edge holds is bounded, and a client that leaves or is slow holds nothing."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from support.edge import UPDATES, RunningEdge, read_line, run_edge, update
from support.simulator import SimulatedEks
from support.waiting import wait_until
from support.wire import PRODUCTION, Gate, add_hooks

OVERLOADED = (429, "resource_exhausted", "OVERLOADED")


def metric(edge: RunningEdge, name: str, **labels: str) -> float:
    return edge.gateway.gateway.metrics.registry.get_sample_value(f"eksgateway_{name}", labels) or 0.0


@asynccontextmanager
async def raw_connection(edge: RunningEdge, **options: Any) -> AsyncIterator[Any]:
    """A reader and a writer."""
    host, _, port = edge.url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), **options)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def wait_for_end(reader: asyncio.StreamReader) -> None:
    async with asyncio.timeout(60):
        with contextlib.suppress(ConnectionResetError):
            while await reader.read(65536):
                pass


async def test_left_streams_end_in_the_gateway(tmp_path: Path, eks: SimulatedEks) -> None:
    """At once, and not when the next message is written."""
    update_id = eks.rollback("prod-1", tags=PRODUCTION)
    async with AsyncExitStack() as stack:
        running = run_edge(tmp_path, eks, watch={"heartbeat_s": 1000, "write_timeout_s": 1000})
        edge = await stack.enter_async_context(running)
        for content_type in ("application/json", "application/connect+json") * 10:
            stream = await stack.enter_async_context(
                edge.stream(update("prod-1", update_id), edge.viewer, content_type)
            )
            await stream.content.read(1)
        assert metric(edge, "watchers") == metric(edge, "http_streams") == 20
        await edge.http.close()
        path = f"{UPDATES}/WatchUpdate"
        async with asyncio.timeout(20):
            await wait_until(lambda: metric(edge, "watchers") == metric(edge, "http_streams") == 0)
            await wait_until(lambda: metric(edge, "http_requests_total", method=path, code="canceled") == 20)


async def test_left_call_ends_in_the_gateway(tmp_path: Path, eks: SimulatedEks) -> None:
    update_id, gate = eks.rollback("staging-1"), Gate()
    async with run_edge(tmp_path, eks, wrap_eks=add_hooks(describe_cluster=gate)) as edge:
        calling = asyncio.create_task(edge.call("GetUpdate", update("staging-1", update_id)))
        await wait_until(lambda: gate.entered == 1)
        calling.cancel()
        async with asyncio.timeout(20):
            await wait_until(lambda: metric(edge, "served_calls") == 0)
        gate.open()


async def test_cancel_of_a_client_that_leaves_is_finished(tmp_path: Path, eks: SimulatedEks) -> None:
    """Once its intent is recorded, as by gRPC."""
    update_id = eks.rollback("staging-1")
    async with run_edge(tmp_path, eks) as edge:
        eks.fault("CancelUpdate", delay_s=2)
        cancelling = asyncio.create_task(edge.cancel("staging-1", update_id, requestId="left"))
        await wait_until(lambda: bool(eks.calls("CancelUpdate")))
        cancelling.cancel()
        repeated = await edge.cancel("staging-1", update_id, requestId="left")
        assert repeated.status == 200
        assert len(eks.calls("CancelUpdate")) == 1


async def test_calls_and_streams_are_bounded_apart(tmp_path: Path, eks: SimulatedEks) -> None:
    """One more is refused at once, with a pause before the next try."""
    update_id, gate = eks.rollback("staging-1"), Gate()
    async with (
        run_edge(tmp_path, eks, {"calls": 2, "streams": 2}, wrap_eks=add_hooks(list_updates=gate)) as edge,
        AsyncExitStack() as stack,
    ):
        for _ in range(2):
            stream = await stack.enter_async_context(edge.stream(update("staging-1", update_id)))
            await read_line(stream.content)
        for content_type in ("application/json", "application/connect+json"):
            async with edge.stream(update("staging-1", update_id), None, content_type) as refused:
                assert refused.status == (429 if content_type == "application/json" else 200)
                assert b"OVERLOADED" in await refused.read()
        request = {"cluster": {"name": "staging-1"}}
        listing = [asyncio.create_task(edge.call("ListUpdates", request)) for _ in range(2)]
        await wait_until(lambda: gate.entered == 2)
        more = await edge.call("ListUpdates", request)
        assert more.refusal == OVERLOADED
        assert more.json["details"][1]["debug"] == {"retryDelay": "1s"}
        gate.open()
        assert {(await each).status for each in listing} == {200}
        assert (await edge.call("ListUpdates", request)).status == 200


async def test_limits_of_a_caller_count_both_ways(tmp_path: Path, eks: SimulatedEks) -> None:
    """By identity: another caller on the same machine is not affected."""
    update_id = eks.rollback("staging-1")
    async with run_edge(tmp_path, eks, limits={"watches_per_caller": 2}) as edge:
        by_grpc = edge.gateway.watch("staging-1", update_id)
        await by_grpc.read()
        async with edge.stream(update("staging-1", update_id)) as by_http:
            await read_line(by_http.content)
            async with edge.stream(update("staging-1", update_id)) as third:
                assert third.status == 429
            async with edge.stream(update("staging-1", update_id), edge.viewer) as other:
                assert other.status == 200


async def test_request_that_is_never_complete_is_ended(tmp_path: Path, eks: SimulatedEks) -> None:
    """Neither headers nor body may take longer than `message_timeout_s`."""
    async with run_edge(tmp_path, eks, limits={"message_timeout_s": 0.3}) as edge:
        async with raw_connection(edge) as (reader, writer):
            await wait_for_end(reader)
        async with raw_connection(edge) as (reader, writer):
            writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nX: ")
            await wait_for_end(reader)
        async with raw_connection(edge) as (reader, writer):
            writer.write(f"POST {UPDATES}/GetUpdate HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n".encode())
            writer.write(b"Content-Type: application/json\r\n\r\n{")
            async with asyncio.timeout(30):
                assert (await reader.readline()).startswith(b"HTTP/1.1 400 ")
                assert b"REQUEST_INVALID" in await reader.read()


async def test_slow_strangers_keep_no_caller_out(tmp_path: Path, eks: SimulatedEks) -> None:
    """Connections whose request is not complete make room, and hold no slot."""
    update_id = eks.rollback("staging-1")
    async with AsyncExitStack() as stack:
        edge = await stack.enter_async_context(run_edge(tmp_path, eks, {"connections": 8, "calls": 4}))
        async with edge.stream(update("staging-1", update_id)) as stream:
            await read_line(stream.content)
            head = f"POST {UPDATES}/GetUpdate HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n"
            for _ in range(30):
                _, writer = await stack.enter_async_context(raw_connection(edge))
                writer.write(head.encode() + b"Content-Type: application/json\r\n\r\n{")
            assert (await edge.call("GetUpdate", update("staging-1", update_id))).status == 200
            assert metric(edge, "http_connections") <= 8
            await edge.cancel("staging-1", update_id)
            assert (await read_line(stream.content))["kind"] != "WATCH_KIND_SNAPSHOT"


async def test_new_connection_is_closed_when_all_are_in_use(tmp_path: Path, eks: SimulatedEks) -> None:
    update_id = eks.rollback("staging-1")
    async with run_edge(tmp_path, eks, {"connections": 2}) as edge, AsyncExitStack() as stack:
        for _ in range(2):
            stream = await stack.enter_async_context(edge.stream(update("staging-1", update_id)))
            await read_line(stream.content)
        with pytest.raises(aiohttp.ClientError):
            await edge.send("GET", "/")
        stack.pop_all()
        stream.close()
        async with asyncio.timeout(20):
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    assert (await edge.send("GET", "/")).status == 200
                    break


async def test_stream_that_is_not_read_is_ended(tmp_path: Path, eks: SimulatedEks) -> None:
    """The gateway keeps little of it meanwhile."""
    update_id = eks.rollback("staging-1")
    watch = {"heartbeat_s": 0.001, "write_timeout_s": 0.5}
    async with run_edge(tmp_path, eks, watch=watch) as edge:
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.setblocking(False)
            host, _, port = edge.url.removeprefix("http://").rpartition(":")
            await asyncio.get_running_loop().sock_connect(slow, (host, int(port)))
            body = b'{"cluster":{"name":"staging-1"},"updateId":"%s"}' % update_id.encode()
            head = (
                f"POST {UPDATES}/WatchUpdate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\nAuthorization: {edge.oncall['authorization']}\r\n\r\n"
            )
            await asyncio.get_running_loop().sock_sendall(slow, head.encode() + body)
            await wait_until(lambda: metric(edge, "http_streams") == 1)
            async with asyncio.timeout(30):  # sooner than TCP gives it up
                await wait_until(lambda: metric(edge, "http_streams") == metric(edge, "watchers") == 0)


async def test_large_token_passes(tmp_path: Path, eks: SimulatedEks) -> None:
    """One with 250 groups has 14 KB; one over the limit is refused as by gRPC."""
    async with run_edge(tmp_path, eks) as edge:
        update_id = eks.rollback("staging-1")
        many = edge.bearer("oncall", "oncall", *(f"{number:050}" for number in range(300)))
        assert len(many["authorization"]) > 20_000
        assert (await edge.call("GetUpdate", update("staging-1", update_id), many)).status == 200
        over = await edge.call("GetUpdate", {}, {"authorization": "Bearer " + "x" * 33_000})
        assert over.refusal == (401, "unauthenticated", "CREDENTIALS_INVALID")
        metadata = {f"x-{number}": "y" * 1000 for number in range(10)}
        too_much = await edge.call("GetUpdate", {}, edge.oncall | metadata)
        assert too_much.refusal == (429, "resource_exhausted", "REQUEST_TOO_LARGE")
