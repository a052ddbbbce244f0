"""Floods one method over raw HTTP/2: `python -m bench.flood`, with its Orders as JSON on standard input.

gRPC's own clients obey the server's limit of concurrent streams, and use more CPU time than the server under
test. This client obeys no limit. It floods loopback addresses only, for a limited time.
"""

from __future__ import annotations

import asyncio
import json
import struct
import sys
import time
from dataclasses import dataclass
from typing import Final

from eksgateway.addresses import is_loopback, split_address

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _ACK, _END_HEADERS = 0x1, 0x1, 0x4
_FIRST_DYNAMIC: Final = 62  # HPACK's index of the newest entry of the dynamic table (RFC 7541 §2.3.3)
_TOP_UP_S, _TOP_UP = 0.02, 80  # at most 80 calls per connection every 20 ms, so 4,000 per second


@dataclass(frozen=True)
class Orders:
    """Send ``messages`` in turn to ``path``, or only headers if there are none.

    ``calls`` is the size of one burst over all connections, or the number of concurrent calls if the flood is
    ``kept_up`` for ``seconds``.
    """

    address: str
    path: str
    authorization: str
    messages: list[str]  # hexadecimal
    connections: int
    calls: int
    kept_up: bool
    seconds: float


def _integer(value: int, prefix: int, first: int) -> bytes:
    """An HPACK integer with a prefix of ``prefix`` bits (RFC 7541 §5.1)."""
    most = (1 << prefix) - 1
    if value < most:
        return bytes([first | value])
    encoded, value = [first | most], value - most
    while value >= 128:
        encoded.append(value % 128 + 128)
        value //= 128
    return bytes([*encoded, value])


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


class FloodConnection:
    """One connection that ignores the server's limit of concurrent streams."""

    def __init__(self, orders: Orders, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._orders = orders
        self._reader = reader
        self._writer = writer
        self._next = 1
        self._window = 65_535
        self._indexed = b""
        self.open: set[int] = set()
        self.sent = self.refused = self.ended = 0
        writer.write(_PREFACE + _frame(_SETTINGS, 0, 0) + _frame(_WINDOW_UPDATE, 0, 0, b"\x3f\xff\x00\x00"))

    def call(self, number: int) -> bool:
        """Open a stream. Returns False if the flow-control window is too small."""
        message = b""
        if self._orders.messages:
            body = bytes.fromhex(self._orders.messages[number % len(self._orders.messages)])
            message = b"\0" + struct.pack(">I", len(body)) + body
        if len(message) > self._window:
            return False
        self._window -= len(message)
        frames = _frame(_HEADERS, _END_HEADERS, self._next, self._headers())
        if message:
            frames += _frame(_DATA, _END_STREAM, self._next, message)
        self._writer.write(frames)
        self.open.add(self._next)
        self._next += 2
        self.sent += 1
        return True

    def close(self) -> None:
        self._writer.close()

    async def read(self) -> None:
        """Count the streams that end, until the connection ends."""
        try:
            while True:
                head = await self._reader.readexactly(9)
                length = int.from_bytes(head[:3], "big")
                kind, flags = head[3], head[4]
                stream = int.from_bytes(head[5:], "big")
                self._handle(kind, flags, stream, await self._reader.readexactly(length))
        except (asyncio.IncompleteReadError, ConnectionError):
            self.open.clear()

    def _handle(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == _RST_STREAM:
            self.refused += stream in self.open
            self.open.discard(stream)
        elif kind in (_HEADERS, _DATA) and flags & _END_STREAM:
            self.ended += stream in self.open
            self.open.discard(stream)
        elif kind == _SETTINGS and not flags & _ACK:
            self._writer.write(_frame(_SETTINGS, _ACK, 0))
        elif kind == _PING and not flags & _ACK:
            self._writer.write(_frame(_PING, _ACK, 0, payload))
        elif kind == _WINDOW_UPDATE and stream == 0:
            self._window += int.from_bytes(payload, "big")

    def _headers(self) -> bytes:
        """The same headers for each call: literal at first, then as indexes of the dynamic table."""
        if self._indexed:
            return self._indexed
        fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", self._orders.path),
            (":authority", self._orders.address),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
        ]
        if self._orders.authorization:
            fields.append(("authorization", self._orders.authorization))
        literal = b""
        for field in fields:
            literal += b"\x40" + b"".join(_integer(len(part), 7, 0) + part.encode() for part in field)
        newest = _FIRST_DYNAMIC + len(fields) - 1
        self._indexed = b"".join(_integer(newest - place, 7, 0x80) for place in range(len(fields)))
        return literal


async def flood(orders: Orders) -> None:
    host, port = split_address(orders.address)
    if not is_loopback(host):
        raise SystemExit(f"{orders.address} is not a loopback address")
    connections = [
        FloodConnection(orders, *await asyncio.open_connection(host, port)) for _ in range(orders.connections)
    ]
    reading = [asyncio.create_task(each.read()) for each in connections]
    number, ends = 0, time.monotonic() + orders.seconds
    share = orders.calls // orders.connections
    print("flooding", flush=True)
    for connection in connections:
        while connection.sent < share and connection.call(number):
            number += 1
    while time.monotonic() < ends:
        await asyncio.sleep(_TOP_UP_S)
        for connection in connections:
            missing = min(_TOP_UP, share - (len(connection.open) if orders.kept_up else connection.sent))
            for _ in range(missing):
                number += connection.call(number)
    counts = {name: sum(getattr(each, name) for each in connections) for name in ("sent", "ended", "refused")}
    print(json.dumps(counts), flush=True)
    for task in reading:
        task.cancel()


if __name__ == "__main__":
    asyncio.run(flood(Orders(**json.loads(sys.stdin.readline()))))
