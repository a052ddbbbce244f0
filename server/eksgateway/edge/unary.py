"""Calls with one answer: the message is the body, and the status is that of HTTP."""

from __future__ import annotations

from dataclasses import dataclass

import grpc
from aiohttp import web

from eksgateway.edge import compression
from eksgateway.edge.answers import TRAILER
from eksgateway.edge.codecs import Codec
from eksgateway.edge.connect_error import from_grpc
from eksgateway.edge.metadata import add_headers
from eksgateway.edge.methods import Method
from eksgateway.edge.request import BodyLimits, inflate_body, read_body, read_headers
from eksgateway.edge.slots import Slots
from eksgateway.edge.upstream import Upstream


@dataclass(frozen=True, slots=True)
class Unary:
    upstream: Upstream
    limits: BodyLimits
    slots: Slots

    async def call(
        self, request: web.BaseRequest, method: Method, codec: Codec, peer: tuple[str, str]
    ) -> web.Response:
        """Raises ConnectError."""
        headers = read_headers(request, "Content-Encoding", peer)
        body = inflate_body(await read_body(request, self.limits), headers, self.limits)
        message = codec.read(method, body)
        with self.slots.hold(request, stream=False):
            call = self.upstream.call(method, message, headers)
            try:
                answer = codec.write(method, await call)
                initial, trailing = await call.initial_metadata(), await call.trailing_metadata()
            except grpc.aio.AioRpcError as exc:
                raise from_grpc(exc) from None
            finally:
                call.cancel()
        response = web.Response(headers={"Content-Type": f"application/{codec.name}"})
        if compression.accepts_gzip(request.headers.get("Accept-Encoding", "")):
            deflated = compression.deflate(answer)
            if deflated is not None:
                answer = deflated
                response.headers["Content-Encoding"] = compression.GZIP
        response.body = answer
        add_headers(response.headers, initial)
        add_headers(response.headers, trailing, TRAILER)
        return response
