"""Reads an HTTP request: its deadline, encodings, metadata and body."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import grpc
from aiohttp import HttpVersion11, web

from eksgateway.edge.compression import GZIP, inflate, too_large
from eksgateway.edge.connect_error import refuse
from eksgateway.edge.metadata import read_metadata
from eksgateway.errors import RequestInvalid
from eksgateway.rpc.context import Metadata

if TYPE_CHECKING:
    from multidict import CIMultiDictProxy

_TIMEOUT: Final = re.compile(r"[0-9]{1,10}")
_EXPECTED: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """``timeout`` is from the request's headers to the end of its body, in seconds."""

    max_bytes: int
    timeout: float


@dataclass(frozen=True, slots=True)
class CallHeaders:
    """``due`` is in the event loop's time; None without a deadline. ``gzip`` is of the whole body, or of
    messages in it.
    """

    due: float | None
    gzip: bool
    metadata: Metadata

    @property
    def timeout(self) -> float | None:
        """The seconds that are left."""
        return None if self.due is None else max(0.0, self.due - asyncio.get_running_loop().time())


def read_headers(request: web.BaseRequest, encoding_header: str, peer: tuple[str, str]) -> CallHeaders:
    """``peer`` is the metadata that names the client. Raises ConnectError."""
    headers = request.headers
    if _value(headers, "Connect-Protocol-Version") not in (None, "1"):
        raise refuse(RequestInvalid("`connect-protocol-version` must be 1, or left out."))
    encoding = (_value(headers, encoding_header) or "identity").strip().lower() or "identity"
    if encoding not in ("identity", GZIP):
        text = f"`{encoding_header.lower()}` must be gzip or identity, or left out."
        raise refuse(RequestInvalid(text), code=grpc.StatusCode.UNIMPLEMENTED)
    due, timeout = None, _value(headers, "Connect-Timeout-Ms")
    if timeout is not None:
        if not _TIMEOUT.fullmatch(timeout):
            raise refuse(RequestInvalid("`connect-timeout-ms` must be a number of up to 10 digits."))
        due = asyncio.get_running_loop().time() + int(timeout) / 1000
    return CallHeaders(due, encoding == GZIP, (*read_metadata(headers), peer))


def _value(headers: CIMultiDictProxy[str], name: str) -> str | None:
    """Of a header that may come once; a repeated one has a comma, which none of them allows."""
    return ", ".join(headers.getall(name)) if name in headers else None


async def read_body(request: web.BaseRequest, limits: BodyLimits, *, overhead: int = 0) -> bytes:
    """``overhead`` is allowed beside the message. Raises ConnectError."""
    max_bytes = limits.max_bytes + overhead
    if (request.content_length or 0) > max_bytes:
        raise too_large(limits.max_bytes)
    expected = request.headers.get("Expect", "").lower()
    if expected == "100-continue" and request.version >= HttpVersion11:
        await request.writer.write(_EXPECTED)
        request.writer.output_size = 0  # or aiohttp takes the answer for begun
    body = bytearray()
    try:
        async with asyncio.timeout(limits.timeout):
            while chunk := await request.content.readany():
                body += chunk
                if len(body) > max_bytes:
                    raise too_large(limits.max_bytes)
    except TimeoutError:
        raise refuse(RequestInvalid(f"No whole message came within {limits.timeout:g} s.")) from None
    except web.RequestPayloadError:
        raise refuse(RequestInvalid("The body ends early, or its chunks are malformed.")) from None
    return bytes(body)


def inflate_body(body: bytes, headers: CallHeaders, limits: BodyLimits) -> bytes:
    """Raises ConnectError."""
    return inflate(body, limits.max_bytes) if headers.gzip and body else body
