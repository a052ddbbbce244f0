"""An HTTP/2 client without gRPC. It can send anything, and sees every byte of an answer."""

from __future__ import annotations

import asyncio
import base64
import struct
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    PingAckReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)

from support.errors import parse_error

Headers = Iterable[tuple[str | bytes, str | bytes]]
_OF_STREAMS = (ResponseReceived, TrailersReceived, DataReceived, StreamEnded, StreamReset)
_HEADERS, _CONTINUATION = 1, 9  # types of frames


@dataclass
class Http2Answer:
    """The answer on one stream. ``blocks`` are the encoded sizes of its header blocks."""

    headers: dict[str, str] = field(default_factory=dict)
    data: bytes = b""
    trailers: dict[str, str] = field(default_factory=dict)
    blocks: list[int] = field(default_factory=list)
    reset: int | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def status(self) -> str | None:
        """The gRPC status, from the trailers or a trailers-only answer."""
        return (self.headers | self.trailers).get("grpc-status")

    @property
    def reason(self) -> str:
        """The reason of the gateway's error, or an empty string."""
        raw = (self.headers | self.trailers).get("grpc-status-details-bin", "")
        return parse_error(raw.encode("latin-1")).reason


class Http2Connection:
    """One connection: ``send`` begins a stream, ``answer`` waits for its end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        config = H2Configuration(
            header_encoding=None, validate_outbound_headers=False, normalize_outbound_headers=False
        )
        self.h2 = H2Connection(config)
        self.answers: defaultdict[int, Http2Answer] = defaultdict(Http2Answer)
        self.acknowledged = 0  # pings
        self.goaways: list[tuple[int, bytes]] = []  # error code and text
        self.closed = asyncio.Event()
        self._reader = reader
        self._writer = writer
        self._unparsed = b""
        self.h2.initiate_connection()
        self.flush()

    def flush(self) -> None:
        """Send pending data of ``h2``."""
        self._writer.write(self.h2.data_to_send())

    def raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._writer.write(data)

    def close(self) -> None:
        """Abort the connection."""
        self._writer.transport.abort()

    def ping(self) -> None:
        """Send a PING."""
        self.h2.ping(b"8 bytes.")
        self.flush()

    def send(self, path: str | bytes, body: bytes | None = None, *, end: bool = True, **changes: str) -> int:
        """Begin a stream with gRPC's headers. ``changes`` replace headers; empty ones are left out."""
        headers = {
            ":method": "POST",
            ":scheme": "http",
            ":path": path,
            ":authority": "localhost",
            "te": "trailers",
            "content-type": "application/grpc",
        } | {key.replace("__", ":").replace("_", "-"): value for key, value in changes.items()}
        number = self.h2.get_next_available_stream_id()
        given = [(key, _bytes(value)) for key, value in headers.items() if value]
        self.h2.send_headers(number, given, end_stream=end and body is None)
        if body is not None:
            self.h2.send_data(number, body, end_stream=end)
        self.flush()
        return number

    async def answer(self, number: int, timeout: float = 20) -> Http2Answer:  # noqa: ASYNC109 - for tests
        """Wait for the end of the stream or the connection; returns the answer."""
        found = self.answers[number]
        async with asyncio.timeout(timeout):
            ends = [asyncio.ensure_future(each.wait()) for each in (found.ended, self.closed)]
            try:
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for each in ends:
                    each.cancel()
        return found

    async def read(self) -> None:
        """Read until the connection ends."""
        try:
            while data := await self._reader.read(65_536):
                self._measure(data)
                for event in self.h2.receive_data(data):
                    self._take(event)
                self.flush()
        except ConnectionError:
            pass
        finally:
            self.closed.set()

    def _measure(self, data: bytes) -> None:
        self._unparsed += data
        while len(self._unparsed) >= 9:
            high, low, kind, _, number = struct.unpack(">BHBBI", self._unparsed[:9])
            size = high << 16 | low
            if len(self._unparsed) < 9 + size:
                return
            blocks = self.answers[number].blocks
            if kind == _HEADERS:
                blocks.append(size)
            elif kind == _CONTINUATION:
                blocks[-1] += size
            self._unparsed = self._unparsed[9 + size :]

    def _take(self, event: Event) -> None:
        if isinstance(event, PingAckReceived):
            self.acknowledged += 1
        elif isinstance(event, ConnectionTerminated):
            self.goaways.append((int(event.error_code or 0), event.additional_data or b""))
        if not isinstance(
            event, ResponseReceived | TrailersReceived | DataReceived | StreamEnded | StreamReset
        ):
            return
        answer = self.answers[event.stream_id]
        if isinstance(event, ResponseReceived):
            answer.headers = _decode(event.headers)
        elif isinstance(event, TrailersReceived):
            answer.trailers = _decode(event.headers)
        elif isinstance(event, DataReceived):
            answer.data += event.data
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, StreamReset):
            answer.reset = int(event.error_code)
            answer.ended.set()
        else:
            answer.ended.set()


def frame_message(body: bytes, *, compressed: int = 0, length: int | None = None) -> bytes:
    """A gRPC message with its prefix."""
    return struct.pack(">BI", compressed, len(body) if length is None else length) + body


def _decode(headers: Headers) -> dict[str, str]:
    return {_text(key): _binary(_text(key), _text(value)) for key, value in headers}


def _bytes(value: str | bytes) -> bytes:
    """UTF-8. A lone surrogate is the byte that it escapes."""
    return value if isinstance(value, bytes) else value.encode(errors="surrogateescape")


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")


def _binary(key: str, value: str) -> str:
    if not key.endswith("-bin"):
        return value
    return base64.b64decode(value + "=" * (-len(value) % 4)).decode("latin-1")


@asynccontextmanager
async def connect_http2(address: str) -> AsyncIterator[Http2Connection]:
    """A connection to host:port."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    opened = Http2Connection(reader, writer)
    reading = asyncio.create_task(opened.read())
    try:
        yield opened
    finally:
        reading.cancel()
        await asyncio.wait((reading,))
        writer.transport.abort()
