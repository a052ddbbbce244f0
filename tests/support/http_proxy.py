"""An HTTP/2 proxy in front of a gateway, which can send answers of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Self

import grpc
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded

from support.raw_http2 import frame_message

Reply = Callable[[H2Connection, int], None]
_GRPC = (":status", "200"), ("content-type", "application/grpc")
_HTML = b"<html><body><h1>502 Bad Gateway</h1></body></html>"


def html(status: int) -> Reply:
    """An HTML page, as nginx, Envoy or a firewall sends."""

    def reply(connection: H2Connection, stream: int) -> None:
        connection.send_headers(stream, [(":status", str(status)), ("content-type", "text/html")])
        connection.send_data(stream, _HTML, end_stream=True)

    return reply


def headers(*more: tuple[str, str], message: bytes | None = None) -> Reply:
    """gRPC's headers, a message if given, and ``more`` at the end of the stream."""

    def reply(connection: H2Connection, stream: int) -> None:
        if message is None:
            connection.send_headers(stream, [*_GRPC, *more], end_stream=True)
            return
        connection.send_headers(stream, _GRPC)
        connection.send_data(stream, frame_message(message), end_stream=not more)
        if more:
            connection.send_headers(stream, more, end_stream=True)

    return reply


def reset(code: int) -> Reply:
    """RST_STREAM."""
    return lambda connection, stream: connection.reset_stream(stream, code)


# Answers that grpc must not take for the gateway's.
REPLIES: Mapping[str, Reply] = {
    "502": html(502),
    "503": html(503),
    "413": html(413),
    "a page with 200": html(200),
    "no trailers": headers(),
    "a message without trailers": headers(message=b""),
    "OK without a message": headers(("grpc-status", "0")),
    "OK with garbage": headers(("grpc-status", "0"), message=b"\xff\xff\xff"),
    "a status of no meaning": headers(("grpc-status", "99"), ("grpc-message", "odd")),
    "a status that is no number": headers(("grpc-status", "?")),
    "details that are no base64": headers(("grpc-status", "14"), ("grpc-status-details-bin", "%%")),
    "details that do not parse": headers(("grpc-status", "14"), ("grpc-status-details-bin", "/////w")),
    "a reset": reset(2),
}


class HttpProxy:
    """``async with HttpProxy(address) as proxy:`` forwards calls to ``proxy.address``.

    ``always`` answers every call in the gateway's place. ``refused`` replaces the gateway's errors.
    ``paths`` are those of all calls.
    """

    def __init__(self, onward: str = "127.0.0.1:1", *, always: Reply | None = None) -> None:
        self.address = ""
        self.always = always
        self.refused: Reply | None = None
        self.paths: list[str] = []
        self._channel = grpc.aio.insecure_channel(onward)
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._channel.close()
        await self._server.wait_closed()

    def cut(self) -> None:
        """Break every connection."""
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        connection = _Connection(writer)
        requests: dict[int, tuple[dict[bytes, bytes], bytearray]] = {}
        calls: list[asyncio.Task[None]] = []
        try:
            while data := await reader.read(65_536):
                for event in connection.h2.receive_data(data):
                    match event:
                        case RequestReceived():
                            requests[event.stream_id] = dict(event.headers), bytearray()
                        case DataReceived():
                            requests[event.stream_id][1].extend(event.data)
                        case StreamEnded():
                            head, body = requests.pop(event.stream_id)
                            answer = self._answer(connection, event.stream_id, head, bytes(body))
                            calls.append(asyncio.create_task(answer))
                connection.flush()
        except OSError:
            pass
        finally:
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
            writer.transport.abort()
            self._tasks.discard(task)
            self._writers.discard(writer)

    async def _answer(
        self, connection: _Connection, stream: int, request: dict[bytes, bytes], body: bytes
    ) -> None:
        path = request[b":path"].decode()
        self.paths.append(path)
        if self.always is not None:
            connection.reply(stream, self.always)
            return
        credentials = request.get(b"authorization", b"").decode()
        metadata = (("authorization", credentials),) if credentials else ()
        ask: Any = self._channel.unary_stream(path)
        call = ask(body[5:], metadata=metadata)
        begun = False
        try:
            async for message in call:
                connection.message(stream, message, begun=begun)
                begun = True
        except grpc.aio.AioRpcError as error:
            connection.reply(stream, self.refused or headers(("grpc-status", str(error.code().value[0]))))
        else:
            connection.end(stream)


class _Connection:
    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self.h2 = H2Connection(H2Configuration(client_side=False))
        self.h2.initiate_connection()
        self.flush()

    def reply(self, stream: int, reply: Reply) -> None:
        reply(self.h2, stream)
        self.flush()

    def message(self, stream: int, message: bytes, *, begun: bool) -> None:
        if not begun:
            self.h2.send_headers(stream, _GRPC)
        self.h2.send_data(stream, frame_message(message))
        self.flush()

    def end(self, stream: int) -> None:
        self.h2.send_headers(stream, [("grpc-status", "0")], end_stream=True)
        self.flush()

    def flush(self) -> None:
        self._writer.write(self.h2.data_to_send())
