"""The tables of docs/clients.md about broken streams, deadlines and pings, against grpc and the code."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import StreamEnded

from eksgateway.client.channels import CHANNEL_OPTIONS
from eksgateway.client.retries import TRANSPORT_STATUSES, Timing
from eksgateway.rpc.methods import CANCELLATIONS, METHODS, UPDATES
from eksgateway.settings.gateway import LimitSettings, WatchSettings
from eksgateway.v1 import update_service_pb2 as pb
from eksgateway.v1 import update_service_pb2_grpc

PAGE = (Path(__file__).parents[2] / "docs" / "clients.md").read_text()


def read_table(head: str) -> dict[str, list[str]]:
    """The cells of each row by the first one."""
    lines = PAGE.partition(f"| {head} ")[2].partition("\n\n")[0].splitlines()[2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: row[1:] for row in rows}


STREAMS = read_table("the stream ends by")
DEADLINES = read_table("RPC | deadline of an attempt")

Break = Callable[[H2Connection, int, asyncio.StreamWriter], None]


def reset_by(code: ErrorCodes) -> Break:
    return lambda http2, stream, _: http2.reset_stream(stream, code)


def reset_connection(_: H2Connection, __: int, writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def close(_: H2Connection, __: int, writer: asyncio.StreamWriter) -> None:
    writer.close()


def go_away(http2: H2Connection, stream: int, writer: asyncio.StreamWriter) -> None:
    http2.close_connection(last_stream_id=stream)
    writer.write(http2.data_to_send())
    writer.close()


BREAKS: dict[str, Break] = {
    "a closed connection (a killed gateway)": close,
    "a reset connection": reset_connection,
    "GOAWAY, then a closed connection": go_away,
    "RST_STREAM with CANCEL": reset_by(ErrorCodes.CANCEL),
    "RST_STREAM with REFUSED_STREAM": reset_by(ErrorCodes.REFUSED_STREAM),
    "RST_STREAM with INTERNAL_ERROR": reset_by(ErrorCodes.INTERNAL_ERROR),
    "RST_STREAM with NO_ERROR": reset_by(ErrorCodes.NO_ERROR),
    "its end without trailers": lambda http2, stream, _: http2.end_stream(stream),
    "trailers with OK before FINAL": lambda http2, stream, _: http2.send_headers(
        stream, [("grpc-status", "0")], end_stream=True
    ),
}
PROXY = "HTTP 502 or 504 of a proxy, in place of a stream"
ELSEWHERE = {"the gateway's drain, with the reason DRAINING", "your deadline"}  # tested over real gateways


class BreakingServer:
    """Sends one message in each stream, and breaks the stream once ``received`` is set."""

    def __init__(self, end: Break | None) -> None:
        self.end = end  # None: answers as a proxy does whose gateway is away
        self.received = asyncio.Event()
        self.writer: asyncio.StreamWriter | None = None  # of its one connection
        self.ended = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        with suppress(ConnectionError):
            await self._serve(reader, writer)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        self.ended.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        http2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        http2.initiate_connection()
        while not writer.is_closing() and (data := await reader.read(65_536)):
            for event in http2.receive_data(data):
                if isinstance(event, StreamEnded):
                    await self._answer(http2, event.stream_id, writer)
            if not writer.is_closing():
                writer.write(http2.data_to_send())

    async def _answer(self, http2: H2Connection, stream: int, writer: asyncio.StreamWriter) -> None:
        if self.end is None:
            http2.send_headers(stream, [(":status", "504"), ("content-type", "text/html")])
            http2.send_data(stream, b"<html>", end_stream=True)
            return
        http2.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
        message = pb.WatchUpdateResponse(sequence=1).SerializeToString()
        http2.send_data(stream, b"\0" + struct.pack(">I", len(message)) + message)
        writer.write(http2.data_to_send())
        await self.received.wait()
        self.end(http2, stream, writer)


async def watch_until_broken(end: Break | None) -> grpc.StatusCode:
    breaking = BreakingServer(end)
    server = await asyncio.start_server(breaking.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub: Any = update_service_pb2_grpc.UpdateServiceStub(channel)
            call = stub.WatchUpdate(pb.WatchUpdateRequest(), timeout=30)
            with suppress(grpc.aio.AioRpcError):
                async for _ in call:
                    breaking.received.set()
            code = await call.code()
        assert breaking.writer
        breaking.writer.close()  # grpc may keep a connection for a while
        await breaking.ended.wait()
    assert isinstance(code, grpc.StatusCode)
    return code


@pytest.mark.parametrize("ending", [each for each in STREAMS if each not in ELSEWHERE])
async def test_status_of_a_broken_stream_is_the_tables(ending: str) -> None:
    """In the column of gRPC core. The Python client retries all, and watches again after an OK."""
    code = await watch_until_broken(None if ending == PROXY else BREAKS[ending])
    assert code.name in STREAMS[ending][0].split(" or ")
    assert code in TRANSPORT_STATUSES or code is grpc.StatusCode.OK


def test_every_status_that_the_client_retries_is_in_the_table() -> None:
    """ABORTED is Connect-node's alone: from grpc it comes with an ErrorInfo."""
    shown = {name for row in STREAMS.values() for cell in row for name in cell.split(" or ")} - {"OK"}
    assert shown == {each.name for each in TRANSPORT_STATUSES} | {"ABORTED"}
    assert "ABORTED" not in {cell for row in STREAMS.values() for cell in row[:3]}


def test_every_rpc_has_a_deadline_longer_than_the_gateways_own() -> None:
    rpcs = {rpc: cells[0] for names, cells in DEADLINES.items() for rpc in names.split(", ")}
    ours = {
        path.rpartition("/")[2] for path in METHODS if path.startswith((f"/{UPDATES}/", f"/{CANCELLATIONS}/"))
    }
    assert set(rpcs) == ours
    streams = {rpc for rpc, deadline in rpcs.items() if deadline == "none"}
    assert streams == {"WatchUpdate", "CancelUpdateAndWatch"}
    longest = LimitSettings().call_timeout_s
    assert f"answers within {longest:.0f} s" in PAGE
    for rpc in set(rpcs) - streams:
        assert float(rpcs[rpc].removesuffix(" s")) > longest


def test_silence_back_off_and_pings_are_those_of_the_python_client() -> None:
    text, options, timing = " ".join(PAGE.split()), dict(CHANNEL_OPTIONS), Timing()
    ping_s = options["grpc.keepalive_time_ms"] // 1000
    answer_s = options["grpc.http2.ping_timeout_ms"] // 1000
    first, longest = timing.first_backoff_s, timing.longest_backoff_s
    for sentence in (
        f"After {timing.silence_s:.0f} s without a message a stream is dead",
        f"a heartbeat every {WatchSettings().heartbeat_s:.0f} s",
        f"a random part of {first} s, doubled after each failure in a row up to {longest:.0f} s",
        f"Ping an idle connection after {ping_s} s, and close it without an answer for {answer_s} s",
        f"The gateway permits a ping every {LimitSettings().client_ping_s:.0f} s",
    ):
        assert sentence in text
