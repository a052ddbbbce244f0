"""An HTTP server for a JWK set. A test sets its answer and counts its requests."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Self

from aiohttp import web

from support.http_server import serve_app


@dataclass(frozen=True)
class JwksAnswer:
    """The server's answer."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class JwksServer:
    """Answers each GET with ``answer``. While ``open`` is cleared, answers wait."""

    answer: JwksAnswer
    fetches: int = 0
    url: str = ""
    port: int = 0
    headers: list[dict[str, str]] = field(default_factory=list)
    open: asyncio.Event = field(default_factory=asyncio.Event)
    _requested: asyncio.Condition = field(default_factory=asyncio.Condition)

    @classmethod
    @asynccontextmanager
    async def running(cls, body: bytes, tls: ssl.SSLContext | None = None) -> AsyncIterator[Self]:
        """A server on a free loopback port. ``headers`` has the headers of each request."""
        server = cls(JwksAnswer(body))
        server.open.set()
        app = web.Application()
        app.router.add_get("/{path:.*}", server._respond)
        async with serve_app(app, tls) as server.port:
            server.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.port}/keys"
            try:
                yield server
            finally:
                server.open.set()

    async def wait_for_requests(self, times: int) -> None:
        """Wait for this total number of requests."""
        async with asyncio.timeout(60), self._requested:
            await self._requested.wait_for(lambda: self.fetches >= times)

    async def _respond(self, request: web.Request) -> web.Response:
        async with self._requested:
            self.fetches += 1
            self.headers.append(dict(request.headers))
            self._requested.notify_all()
        await self.open.wait()
        return web.Response(body=self.answer.body, status=self.answer.status, headers=self.answer.headers)
