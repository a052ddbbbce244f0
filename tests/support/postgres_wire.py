"""A proxy in front of PostgreSQL that counts round trips, and cuts a connection at a COMMIT."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Literal, Self

import psycopg

_COMMIT = b"COMMIT\0"
_READY = b"Z\0\0\0\5I"

_End = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class PostgresWire:
    """``async with PostgresWire(url) as wire:`` leads from ``wire.url`` to the database of another URL.

    ``trips`` counts what a client waits for: batches of messages that end with a Sync, and simple queries.
    ``cut`` breaks the connection at the next COMMIT: before it gets there, or when its answer comes back.
    While ``passing`` is cleared, both ends are connected and nothing arrives.
    """

    def __init__(self, url: str) -> None:
        parts = psycopg.conninfo.conninfo_to_dict(url)
        self._to = str(parts["host"]), str(parts["port"])
        self._url = url
        self.url = ""
        self.trips = 0
        self.cut: Literal["", "before", "after"] = ""
        self.passing = asyncio.Event()
        self.passing.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        before, after = self._url.split(":".join(self._to))
        # In plain text from the first message on.
        self.url = f"{before}127.0.0.1:{port}{after}?sslmode=disable&gssencmode=disable"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.passing.set()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*self._tasks)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        server = await asyncio.open_connection(*self._to)
        ends = {writer, server[1]}
        self._writers |= ends
        answers = asyncio.create_task(self._pump(server[0], writer))
        try:
            with suppress(OSError, EOFError):
                await self._forward(reader, server, answers)
        finally:
            answers.cancel()
            await asyncio.gather(answers, return_exceptions=True)
            self._writers -= ends
            for each in ends:
                each.transport.abort()
            self._tasks.discard(task)

    async def _forward(self, reader: asyncio.StreamReader, server: _End, answers: asyncio.Task[None]) -> None:
        server[1].write(await self._read(reader, b""))  # the first message has no type
        cutting = False
        while True:
            kind = await reader.readexactly(1)
            message = await self._read(reader, kind)
            await self.passing.wait()
            self.trips += kind in (b"S", b"Q")
            if self.cut and _COMMIT in message:
                how, self.cut = self.cut, ""
                if how == "before":
                    return
                cutting = True
                answers.cancel()
            server[1].write(message)
            if cutting and kind == b"S":
                await self._read_answer(server[0])
                return

    async def _read_answer(self, reader: asyncio.StreamReader) -> None:
        """Until PostgreSQL is ready for the next transaction."""
        data = b""
        while not data.endswith(_READY):
            data += await reader.readexactly(1)

    async def _read(self, reader: asyncio.StreamReader, kind: bytes) -> bytes:
        length = await reader.readexactly(4)
        return kind + length + await reader.readexactly(int.from_bytes(length) - 4)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                await self.passing.wait()
                writer.write(data)
                await writer.drain()
        writer.transport.abort()
