"""A TCP proxy that a test can cut or hold up."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Self

_End = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class TcpProxy:
    """``async with Proxy(address) as proxy:`` forwards ``proxy.address`` to another host:port.

    ``cut`` breaks every connection, and ``silence`` makes each hang; later ones work. While ``refusing``, new
    connections are closed at once. While ``passing`` is cleared, nothing is forwarded from the server.
    ``connections`` counts all connections.
    """

    def __init__(self, onward: str) -> None:
        self._onward = onward.split(":")
        self.address = ""
        self.connections = 0
        self.refusing = False
        self.passing = asyncio.Event()
        self.passing.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.passing.set()
        self.cut()
        await self._server.wait_closed()

    def cut(self) -> None:
        """Break every connection."""
        for writer in self._writers:
            writer.transport.abort()

    def silence(self) -> None:
        """Forward nothing more from the server on the connections that are open now."""
        self.passing.clear()
        self.passing = asyncio.Event()
        self.passing.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            if not self.refusing:
                there, onward = await asyncio.open_connection(*self._onward)
                await self._join((reader, writer), (there, onward))
        except OSError:
            pass  # no server listens
        finally:
            writer.transport.abort()

    async def _join(self, client: _End, server: _End) -> None:
        ends = {client[1], server[1]}
        self._writers |= ends
        try:
            async with asyncio.TaskGroup() as pumps:
                up = pumps.create_task(self._pump(client[0], server[1]))
                down = pumps.create_task(self._pump(server[0], client[1], self.passing))
                up.add_done_callback(lambda _: down.cancel())  # it may be silent
        finally:
            self._writers -= ends
            server[1].transport.abort()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, passing: asyncio.Event | None = None
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                if passing is not None:
                    await passing.wait()
                writer.write(data)
                await writer.drain()
        writer.transport.abort()  # if one end closes, close the other
