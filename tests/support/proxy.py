"""A TCP proxy that a test cuts, holds up, or points at another gateway."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Self


class Proxy:
    """``async with Proxy(port) as proxy:`` forwards ``proxy.address`` to a port of this machine.

    ``cut`` breaks every connection; while ``deaf``, what the server sends is swallowed; while
    ``refusing``, connections are closed at once. ``connections`` counts all that were made.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.connections = 0
        self.deaf = False
        self.refusing = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self.address = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        await self._server.wait_closed()

    def cut(self) -> None:
        """Break every connection, as a network does: without a word."""
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self.refusing:
            writer.transport.abort()
            return
        with contextlib.suppress(OSError):
            there, onward = await asyncio.open_connection("127.0.0.1", self.port)
            ends = {writer, onward}
            self._writers |= ends
            try:
                await asyncio.gather(self._pump(reader, onward), self._pump(there, writer, answers=True))
            finally:
                self._writers -= ends
                for end in ends:
                    end.transport.abort()
            return
        writer.transport.abort()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool = False
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                if not (answers and self.deaf):
                    writer.write(data)
                    await writer.drain()
        writer.transport.abort()  # either end gone is both ends gone
