"""The edge's life: bind, serve, drain and close. It runs on the gateway's event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from eksgateway.addresses import join_address, split_address
from eksgateway.blocking import run_blocking
from eksgateway.edge.connections import Server
from eksgateway.edge.handler import Handler
from eksgateway.edge.methods import Method
from eksgateway.edge.request import BodyLimits
from eksgateway.edge.upstream import Upstream
from eksgateway.metrics import Metrics
from eksgateway.rpc.peers import EdgePeers
from eksgateway.settings import HttpSettings, LimitSettings, SettingsError

_BACKLOG = 1024


class HttpEdge:
    """``upstream`` gets the calls, and ``peers`` names their clients to it. ``connections`` is how many the
    process may hold.
    """

    def __init__(  # noqa: PLR0913  the parts of a listener
        self,
        *,
        settings: HttpSettings,
        limits: LimitSettings,
        upstream: Upstream,
        peers: EdgePeers,
        methods: Mapping[str, Method],
        metrics: Metrics,
        connections: int,
        write_timeout: float,
    ) -> None:
        assert settings.listen is not None  # noqa: S101  else there is no edge
        self._listen = settings.listen
        self._limits = limits
        self._connections = min(connections, settings.connections)
        self._upstream = upstream
        self._handler = Handler(
            methods=methods,
            upstream=upstream,
            peers=peers,
            body=BodyLimits(limits.message_bytes, limits.message_timeout_s),
            settings=settings,
            write_timeout=write_timeout,
            metrics=metrics,
        )
        self._server: Server | None = None
        self._listening: asyncio.Server | None = None
        metrics.add_gauge(
            "http_streams", "Open streams of the HTTP edge.", lambda: self._handler.slots.streams
        )
        metrics.add_gauge("http_connections", "Connections to the HTTP edge.", self._count_connections)

    @property
    def address(self) -> str:
        """host:port, as bound; empty before the start."""
        if self._listening is None:
            return ""
        host, _ = split_address(self._listen)
        return join_address(host, self._listening.sockets[0].getsockname()[1])

    async def start(self) -> None:
        """Raises SettingsError when the address cannot be bound."""
        await run_blocking(self._handler.page.load)
        await self._upstream.start()
        self._server = Server(self._handler, self._limits, self._connections)
        loop, (host, port) = asyncio.get_running_loop(), split_address(self._listen)
        try:
            self._listening = await loop.create_server(self._server, host, port, backlog=_BACKLOG)
        except OSError as exc:
            raise SettingsError(
                f"cannot listen on {self._listen}: {exc.strerror}; set `http.listen` to a free"
                " address of this machine"
            ) from exc

    def drain(self) -> None:
        """Refuse new calls. Each connection ends with the answer that it waits for."""
        self._handler.slots.draining = True

    async def stop(self, grace: float) -> None:
        """End the calls that are left after ``grace`` seconds, with their status."""
        self.drain()
        await self._upstream.stop(grace)
        if self._listening is not None:
            self._listening.close()
        if self._server is not None:
            self._server.pre_shutdown()
            await self._server.shutdown(grace)
        await self._upstream.close()

    def _count_connections(self) -> int:
        return len(self._server.connections) if self._server is not None else 0
