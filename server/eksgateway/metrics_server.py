"""The HTTP server for Prometheus (``/metrics``) and Kubernetes' probes (``/healthz``, ``/readyz``)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry

from eksgateway.addresses import join_address, split_address
from eksgateway.settings import MetricsSettings, SettingsError

if TYPE_CHECKING:
    from aiohttp import web

_MAX_CONNECTIONS: Final = 100
_NO_STORE: Final = {"Cache-Control": "no-store"}


@dataclass(eq=False)
class MetricsServer:
    """Runs on the gateway's event loop; without ``listen`` it does nothing.

    ``unready`` returns a line for each part that is not ready.
    """

    registry: CollectorRegistry
    settings: MetricsSettings
    unready: Callable[[], Sequence[str]]
    _runner: web.AppRunner | None = field(init=False, default=None)
    _server: asyncio.Server | None = field(init=False, default=None)

    @property
    def address(self) -> str:
        """host:port, as bound; empty when it is off."""
        if self.settings.listen is None or self._server is None:
            return ""
        host, _ = split_address(self.settings.listen)
        return join_address(host, self._server.sockets[0].getsockname()[1])

    async def start(self) -> None:
        """Raises SettingsError when the address cannot be bound."""
        if self.settings.listen is None:
            return
        # Imported here because aiohttp takes 150 ms, and many tests and sandboxes do not need it.
        from aiohttp import web  # noqa: PLC0415
        from prometheus_client.aiohttp import make_aiohttp_handler  # noqa: PLC0415

        async def healthz(_: web.Request) -> web.Response:
            return web.Response(text="ok\n", headers=_NO_STORE)

        async def readyz(_: web.Request) -> web.Response:
            lines = self.unready()
            text = "\n".join(["not ready", *lines, ""] if lines else ["ready", ""])
            return web.Response(text=text, status=503 if lines else 200, headers=_NO_STORE)

        app = web.Application()
        app.router.add_get("/metrics", make_aiohttp_handler(self.registry))
        app.router.add_get("/healthz", healthz)
        app.router.add_get("/readyz", readyz)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        try:
            loop, server = asyncio.get_running_loop(), self._runner.server
            assert server is not None  # noqa: S101  set by ``setup``
            host, port = split_address(self.settings.listen)
            self._server = await loop.create_server(partial(_BoundedConnections, server), host, port)
        except OSError as exc:
            await self.close()
            raise SettingsError(
                f"cannot serve metrics on {self.settings.listen}: {exc.strerror}; set `metrics.listen`"
                " to a free address of this machine"
            ) from exc

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        if self._runner is not None:
            await self._runner.cleanup()


class _BoundedConnections(asyncio.Protocol):
    """Accepts a connection for the server; beyond ``_MAX_CONNECTIONS`` the oldest one ends.

    More would take file descriptors from calls. Refusing new ones would let silent clients keep probes out.
    """

    def __init__(self, server: web.Server) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101
        transports = [each.transport for each in self._server.connections]
        open_ = [each for each in transports if each is not None and not each.is_closing()]
        if len(open_) >= _MAX_CONNECTIONS:
            open_[0].abort()
        handler = self._server()
        transport.set_protocol(handler)
        handler.connection_made(transport)
