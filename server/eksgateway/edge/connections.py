"""The edge's connections: how many, how long without a request, and answers to what is no HTTP."""

from __future__ import annotations

import asyncio
import socket
from typing import Any, Final

from aiohttp import web

from eksgateway.edge.answers import answer_error
from eksgateway.edge.connect_error import refuse
from eksgateway.errors import Internal, RequestInvalid
from eksgateway.logs import Log
from eksgateway.settings import LimitSettings

log = Log(__name__)

_MAX_HEADERS: Final = 64
# Headers that are a little over the gateway's limits reach it, and get its error.
_SPARE_BYTES: Final = 4096
_BUFFER_BYTES: Final = 65_536  # of each connection, here and in the kernel


class Server(web.Server):
    """Holds up to ``max_connections``: then the oldest without a call in flight makes room for a new one, or
    the new one is closed.
    """

    def __init__(self, handler: Any, limits: LimitSettings, max_connections: int) -> None:
        super().__init__(handler, handler_cancellation=True)
        self.limits = limits
        self.max_connections = max_connections

    def __call__(self) -> web.RequestHandler:
        return Connection(self)

    def has_room(self) -> bool:
        """Ends the oldest connection without a call in flight, if there must be room."""
        open_ = [each for each in self.connections if isinstance(each, Connection) and each.is_open]
        if len(open_) < self.max_connections:
            return True
        idle = next((each for each in open_ if not each.is_busy), None)
        if idle is not None:
            idle.abort()
        return idle is not None


class Connection(web.RequestHandler):
    """``is_busy`` while a call is in flight, and not while its request is still read."""

    def __init__(self, server: Server) -> None:
        limits = server.limits
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]  # it may be
            keepalive_timeout=limits.connection_idle_s,
            max_headers=_MAX_HEADERS,
            max_field_size=limits.credentials_bytes + _SPARE_BYTES,
            auto_decompress=False,  # it has no bound
        )
        self._server = server
        self._limits = limits
        self._first_request: asyncio.TimerHandle | None = None
        self.is_busy = False

    @property
    def is_open(self) -> bool:
        return self.transport is not None and not self.transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101
        if not self._server.has_room():
            transport.abort()
            return
        super().connection_made(transport)
        _set_options(transport, self._limits)
        loop = asyncio.get_running_loop()
        self._first_request = loop.call_later(self._limits.message_timeout_s, self.abort)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.note_request()
        super().connection_lost(exc)

    def note_request(self) -> None:
        """Its first one came in time."""
        if self._first_request is not None:
            self._first_request.cancel()
            self._first_request = None

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """For aiohttp, whose own answer is text, and which would log any client's bytes."""
        self.note_request()
        if request.writer.output_size > 0:
            raise ConnectionResetError
        if status < 500:
            fault = (message or "").partition("\n")[0].rstrip(": ")
            error = refuse(RequestInvalid(f"The request is not valid HTTP/1.1: {fault[:100]}"))
        else:
            log.error("http.unexpected", exc_info=exc)
            error = refuse(Internal())
        response = answer_error(error)
        response.force_close()
        return response


def _set_options(transport: asyncio.Transport, limits: LimitSettings) -> None:
    """Buffer little for a client that does not read, and end the connection of one that is gone, as a gRPC
    listener does with its pings.
    """
    transport.set_write_buffer_limits(_BUFFER_BYTES)
    connection = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
    silent_s, answer_s = max(1, round(limits.keepalive_s)), max(1, round(limits.keepalive_timeout_s))
    options = {"TCP_KEEPIDLE": silent_s, "TCP_KEEPINTVL": max(1, answer_s // 4), "TCP_KEEPCNT": 4}
    options["TCP_USER_TIMEOUT"] = (silent_s + answer_s) * 1000
    for name, value in options.items():
        if hasattr(socket, name):  # not every system has all of them
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
