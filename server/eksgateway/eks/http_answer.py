"""Reads HTTP answers and bounds each: its size, and the time until its last byte."""

from __future__ import annotations

import io
import re
import time
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from typing import Any, Final

from botocore.exceptions import HTTPClientError
from urllib3 import HTTPHeaderDict

MAX_BYTES: Final = 1 << 20  # EKS's longest answers, which are listings, have some 10 KB
_CHUNK: Final = 1 << 16
_PLAIN: Final = re.compile(
    rb"HTTP/1\.1 ([2-5]\d\d) [^\r\n]*\r\n((?:[!#-'*+.0-9A-Z^-z|~-]+:[^\r\n]*\r\n)+)\r\n"
)
_HEAD_END: Final = re.compile(rb"\n\r?\n")
_LENGTH: Final = re.compile(r"\d{1,9}", re.ASCII)


class TooLargeError(HTTPClientError):
    fmt = "The answer is too large"


class InterimError(HTTPClientError):
    """http.client takes a status below 200 for the answer, but the answer is still to come."""

    fmt = "The answer is not the last one"


@dataclass(frozen=True, slots=True)
class Answer:
    """``headers`` have names in lower case. ``reusable``: the connection can take the next request."""

    status: int
    headers: dict[str, str]
    body: bytes
    reusable: bool


def read_answer(sock: Any, timeout: float) -> Answer:
    """Raises OSError, HTTPException, TooLargeError and InterimError."""
    deadline = time.monotonic() + timeout
    received = _receive(sock, deadline)
    while not _HEAD_END.search(received) and 0 < len(received) < _CHUNK:
        more = _receive(sock, deadline)
        if not more:
            break
        received += more
    # An answer with a Content-Length takes 20 µs here, and 240 in http.client.
    plain = _PLAIN.match(received)
    lines = plain[2].decode("latin-1").split("\r\n")[:-1] if plain else []
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    length = headers.get("content-length", "")
    odd = len(headers) != len(lines) or "transfer-encoding" in headers or not _LENGTH.fullmatch(length)
    if plain is None or odd or plain[1] in (b"204", b"304"):
        return _read_other(sock, deadline, received)
    if int(length) > MAX_BYTES:
        raise TooLargeError
    body = bytearray(received[plain.end() :])
    while len(body) < int(length):
        more = _receive(sock, deadline)
        if not more:
            raise ConnectionError("the answer ended early")
        body += more
    reusable = len(body) == int(length) and headers.get("connection", "").lower() != "close"
    return Answer(int(plain[1]), headers, bytes(body[: int(length)]), reusable)


def _receive(sock: Any, deadline: float) -> bytes:
    sock.settimeout(seconds_left(deadline))
    received: bytes = sock.recv(_CHUNK)
    return received


def seconds_left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the answer was not complete in time")
    return left


def _read_other(sock: Any, deadline: float, received: bytes) -> Answer:
    """Of chunks, until the end of the connection, or malformed."""
    bounded: Any = BoundedSocket(sock, deadline, received)
    with closing(HTTPResponse(bounded)) as response:
        response.begin()
        if response.status < 200:
            raise InterimError
        if len(set(response.headers.get_all("Content-Length", ()))) > 1:
            raise HTTPException("the answer has two lengths")
        body = read_body(response)
        joined = HTTPHeaderDict(response.headers.items())  # those of one name, as botocore's session does
        headers = {name.lower(): value for name, value in joined.itermerged()}
        return Answer(response.status, headers, body, response.isclosed() and not response.will_close)


def read_body(raw: Any) -> bytes:
    body = bytearray()
    while chunk := raw.read(_CHUNK):
        body += chunk
        if len(body) > MAX_BYTES:
            raise TooLargeError
    return bytes(body)


class _DeadlineReader(io.RawIOBase):
    """Raises TimeoutError past ``deadline`` (monotonic), even if bytes still arrive."""

    def __init__(self, sock: Any, deadline: float, received: bytes) -> None:
        self._sock = sock
        self._bytes = sock.makefile("rb", buffering=0)
        self._deadline = deadline
        self._received = received

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._received:
            count = min(len(buffer), len(self._received))
            buffer[:count], self._received = self._received[:count], self._received[count:]
            return count
        self._sock.settimeout(seconds_left(self._deadline))
        read: int | None = self._bytes.readinto(buffer)
        return read

    def close(self) -> None:
        self._bytes.close()
        super().close()


@dataclass
class BoundedSocket:
    """The part of a socket that HTTPResponse uses. ``received`` was read before."""

    sock: Any
    deadline: float
    received: bytes = b""

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_DeadlineReader(self.sock, self.deadline, self.received))
