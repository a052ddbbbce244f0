"""Calls with a stream of answers: in the frames of Connect, or as JSON lines for a shell.

https://connectrpc.com/docs/protocol#streaming-response
"""

from __future__ import annotations

import asyncio
import struct
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Final

import grpc
from aiohttp import web

from eksgateway.edge import compression
from eksgateway.edge.answers import API_HEADERS, answer_error
from eksgateway.edge.codecs import CODECS, Codec, to_json
from eksgateway.edge.connect_error import ConnectError, from_grpc, refuse
from eksgateway.edge.metadata import add_headers, to_lists
from eksgateway.edge.methods import Method
from eksgateway.edge.request import BodyLimits, CallHeaders, inflate_body, read_body, read_headers
from eksgateway.edge.slots import Slots
from eksgateway.edge.upstream import Upstream
from eksgateway.errors import RequestInvalid
from eksgateway.rpc.context import Metadata

_PREFIX: Final = struct.Struct(">BI")
_COMPRESSED, _END = 1, 2


class StreamForm(ABC):
    """``encoding_header`` names the compression of the request."""

    content_type: str
    encoding_header: str

    @abstractmethod
    async def read(self, request: web.BaseRequest, headers: CallHeaders, limits: BodyLimits) -> bytes:
        """The binary request. Raises ConnectError."""

    @abstractmethod
    def message(self, raw: bytes) -> bytes: ...

    @abstractmethod
    def end(self, trailing: Metadata, error: ConnectError | None = None) -> bytes: ...

    @abstractmethod
    def refuse(self, error: ConnectError) -> web.Response:
        """The answer to a call that has not begun to answer."""

    def headers(self) -> dict[str, str]:
        # nginx would hold messages back.
        return API_HEADERS | {"Content-Type": self.content_type, "X-Accel-Buffering": "no"}


@dataclass(frozen=True, slots=True)
class ConnectFrames(StreamForm):
    """A byte of flags, four of length, the message. The last frame has the error or the metadata."""

    method: Method
    codec: Codec
    gzip: bool  # the client accepts it
    content_type: str
    encoding_header: str = "Connect-Content-Encoding"

    async def read(self, request: web.BaseRequest, headers: CallHeaders, limits: BodyLimits) -> bytes:
        body = await read_body(request, limits, overhead=_PREFIX.size)
        if len(body) < _PREFIX.size:
            raise _not_one_message("none" if not body else "part of one")
        flags, length = _PREFIX.unpack_from(body)
        message, rest = body[_PREFIX.size : _PREFIX.size + length], body[_PREFIX.size + length :]
        if length > limits.max_bytes:
            raise compression.too_large(limits.max_bytes)
        if len(message) < length:
            raise refuse(RequestInvalid("The message is shorter than its frame says."))
        if flags not in (0, _COMPRESSED):
            raise refuse(RequestInvalid(f"A request's frame has the flags 0 or 1, and not {flags}."))
        if rest:
            raise _not_one_message("more")
        if flags == _COMPRESSED:
            if not headers.gzip:
                text = "A frame is compressed, and `connect-content-encoding` names no compression."
                raise refuse(RequestInvalid(text), code=grpc.StatusCode.INTERNAL)
            message = inflate_body(message, headers, limits)
        return self.codec.read(self.method, message)

    def message(self, raw: bytes) -> bytes:
        return self._frame(0, self.codec.write(self.method, raw))

    def end(self, trailing: Metadata, error: ConnectError | None = None) -> bytes:
        last: dict[str, Any] = {"error": error.to_json()} if error else {}
        if trailing:
            last["metadata"] = to_lists(trailing)
        return self._frame(_END, to_json(last))

    def refuse(self, error: ConnectError) -> web.Response:
        response = web.Response(body=self.end(error.trailing, error), headers=self.headers())
        add_headers(response.headers, error.initial)
        return response

    def headers(self) -> dict[str, str]:
        headers = StreamForm.headers(self)
        return headers | ({"Connect-Content-Encoding": compression.GZIP} if self.gzip else {})

    def _frame(self, flags: int, message: bytes) -> bytes:
        deflated = compression.deflate(message) if self.gzip else None
        if deflated is not None:
            flags, message = flags | _COMPRESSED, deflated
        return _PREFIX.pack(flags, len(message)) + message


@dataclass(frozen=True, slots=True)
class JsonLines(StreamForm):
    """A message in JSON per line. A call that fails later ends with the line `{"error": …}`."""

    method: Method
    content_type: str = "application/x-ndjson"
    encoding_header: str = "Content-Encoding"

    async def read(self, request: web.BaseRequest, headers: CallHeaders, limits: BodyLimits) -> bytes:
        body = inflate_body(await read_body(request, limits), headers, limits)
        return CODECS["json"].read(self.method, body)

    def message(self, raw: bytes) -> bytes:
        return CODECS["json"].write(self.method, raw) + b"\n"

    def end(self, trailing: Metadata, error: ConnectError | None = None) -> bytes:  # noqa: ARG002
        return to_json({"error": error.to_json()}) + b"\n" if error else b""

    def refuse(self, error: ConnectError) -> web.Response:
        return answer_error(error)


@dataclass(frozen=True, slots=True)
class Streams:
    """``write_timeout`` is for each message, in seconds. A client that reads nothing for longer is cut
    off.
    """

    upstream: Upstream
    limits: BodyLimits
    slots: Slots
    write_timeout: float

    async def call(
        self, request: web.BaseRequest, method: Method, form: StreamForm, peer: tuple[str, str]
    ) -> tuple[web.StreamResponse, str]:
        """Return the response and the call's code. Raises ConnectError before the response has begun."""
        headers = read_headers(request, form.encoding_header, peer)
        message = await form.read(request, headers, self.limits)
        with self.slots.hold(request, stream=True):
            call = await self.upstream.open(method, message, headers)
            try:
                return await self._answer(request, form, call)
            finally:
                call.cancel()

    async def _answer(
        self, request: web.BaseRequest, form: StreamForm, call: Any
    ) -> tuple[web.StreamResponse, str]:
        response = web.StreamResponse(headers=form.headers())
        error: ConnectError | None = None
        try:
            add_headers(response.headers, await call.initial_metadata())
            while (raw := await call.read()) is not grpc.aio.EOF:
                if not response.prepared:  # later than the headers of the gateway: a refusal has a status
                    await response.prepare(request)
                await self._write(request, response, form.message(raw))
            trailing = await call.trailing_metadata()
        except grpc.aio.AioRpcError as exc:
            error = from_grpc(exc)
            trailing = error.trailing
            if not response.prepared:
                raise error from None
        if not response.prepared:
            await response.prepare(request)
        await self._write(request, response, form.end(trailing, error))
        return response, error.code if error else "ok"

    async def _write(self, request: web.BaseRequest, response: web.StreamResponse, data: bytes) -> None:
        try:
            async with asyncio.timeout(self.write_timeout):
                await response.write(data)
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()
            raise ConnectionResetError from None


def _not_one_message(what: str) -> ConnectError:
    text = f"The request must have one message, and has {what}."
    return refuse(RequestInvalid(text), code=grpc.StatusCode.UNIMPLEMENTED)
