"""Answers one HTTP request: a call by its path and content type, or a file of the page."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
from aiohttp import web

from eksgateway.addresses import join_address
from eksgateway.edge.answers import API_HEADERS, answer_error
from eksgateway.edge.codecs import CODECS
from eksgateway.edge.compression import accepts_gzip
from eksgateway.edge.connect_error import ConnectError, refuse
from eksgateway.edge.connections import Connection
from eksgateway.edge.methods import Method
from eksgateway.edge.page import Page
from eksgateway.edge.request import BodyLimits
from eksgateway.edge.slots import Slots
from eksgateway.edge.streams import ConnectFrames, JsonLines, StreamForm, Streams
from eksgateway.edge.unary import Unary
from eksgateway.edge.upstream import Upstream
from eksgateway.errors import Internal, MethodUnknown, RequestInvalid
from eksgateway.logs import Log
from eksgateway.metrics import Metrics
from eksgateway.rpc.peers import EdgePeers
from eksgateway.settings import HttpSettings

log = Log(__name__)

_UNARY: Final = {f"application/{name}": codec for name, codec in CODECS.items()}
_FRAMES: Final = {f"application/connect+{name}": codec for name, codec in CODECS.items()}
_BY_HTTP: Final = grpc.StatusCode.UNKNOWN  # Connect's code for HTTP statuses that it gives no meaning
_PAGE, _UNKNOWN = "page", "unknown"  # in the metrics, beside the paths of methods


@dataclass(eq=False)
class Handler:
    """``page`` has no files before the start."""

    methods: Mapping[str, Method]
    upstream: Upstream
    peers: EdgePeers
    body: BodyLimits
    settings: HttpSettings
    write_timeout: float
    metrics: Metrics
    page: Page = field(default_factory=Page)

    def __post_init__(self) -> None:
        self.slots = Slots(self.settings)
        self._unary = Unary(self.upstream, self.body, self.slots)
        self._streams = Streams(self.upstream, self.body, self.slots, self.write_timeout)

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        assert isinstance(connection, Connection)  # noqa: S101
        connection.note_request()
        name, code = _UNKNOWN, "canceled"  # unless it comes to an answer
        response: web.StreamResponse
        try:
            if request.path in self.page:
                name = _PAGE
                response, code = self._answer_page(request)
            else:
                method = self._find(request)
                name = method.path
                response, code = await self._call(request, method)
        except ConnectError as error:
            response, code = answer_error(error), error.code
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception:  # the client gets no traceback
            log.exception("http.unexpected", method=name)
            code = "internal"
            response = answer_error(refuse(Internal()))
        finally:
            self.metrics.count_http_request(name, code)
        if not response.prepared:
            for header, value in API_HEADERS.items():
                response.headers.setdefault(header, value)
            if self.slots.draining or not request.content.is_eof():
                response.force_close()
        return response

    def _answer_page(self, request: web.BaseRequest) -> tuple[web.Response, str]:
        if request.method in ("GET", "HEAD"):
            return self.page.answer(request), "ok"
        raise _wrong_method(request, "GET, HEAD")

    def _find(self, request: web.BaseRequest) -> Method:
        method = self.methods.get(request.path)
        if method is None:
            raise refuse(MethodUnknown(), http_status=404)
        if request.method != "POST":
            raise _wrong_method(request, "POST")
        return method

    async def _call(self, request: web.BaseRequest, method: Method) -> tuple[web.StreamResponse, str]:
        content_type = _content_type(request)
        peer = self.peers.name(_name_peer(request))
        if not method.streams:
            codec = _UNARY.get(content_type)
            if codec is None:
                raise _wrong_type(_UNARY)
            return await self._unary.call(request, method, codec, peer), "ok"
        form = _choose_form(request, method, content_type)
        try:
            return await self._streams.call(request, method, form, peer)
        except ConnectError as error:
            return form.refuse(error), error.code


def _choose_form(request: web.BaseRequest, method: Method, content_type: str) -> StreamForm:
    if content_type == "application/json":
        return JsonLines(method)
    codec = _FRAMES.get(content_type)
    if codec is None:
        raise _wrong_type([*_FRAMES, "application/json"])
    gzip = accepts_gzip(request.headers.get("Connect-Accept-Encoding", ""))
    return ConnectFrames(method, codec, gzip, content_type)


def _content_type(request: web.BaseRequest) -> str:
    """Empty for a charset other than UTF-8."""
    if "Content-Type" not in request.headers or (request.charset or "utf-8").lower() != "utf-8":
        return ""
    return request.content_type


def _wrong_type(right: Any) -> ConnectError:
    # A browser may send text/plain to other sites without asking them first; these types it may not.
    types = ", ".join(right)
    text = f"The content type must be {' or '.join(right)}."
    return refuse(RequestInvalid(text), code=_BY_HTTP, http_status=415, headers={"Accept-Post": types})


def _wrong_method(request: web.BaseRequest, allowed: str) -> ConnectError:
    text = f"This path takes {allowed.replace(', ', ' and ')}, and not {request.method[:20]}."
    return refuse(RequestInvalid(text), code=_BY_HTTP, http_status=405, headers={"Allow": allowed})


def _name_peer(request: web.BaseRequest) -> str:
    peer = request.transport.get_extra_info("peername") if request.transport is not None else None
    if not peer:  # the client has left
        raise ConnectionResetError
    return f"http://{join_address(str(peer[0]), peer[1])}"
