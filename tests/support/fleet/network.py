"""The way of one replica to PostgreSQL: a TCP proxy that delays, goes silent, refuses and cuts."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Self


class Network:
    """``async with Network(port) as network:`` forwards ``network.port`` to a port of this machine.

    ``delay_s`` holds each packet up. While ``silence`` lasts, both kernels acknowledge everything and nothing
    arrives; afterwards it arrives, as packets that are sent again do. While ``refusing``, new connections
    are closed at once. ``cut`` breaks every connection.

    ``hold_answer_to`` holds the answers on the next connection that sends a text, from that text on, until
    ``release``; ``held`` is set when it was sent on.
    """

    def __init__(self, onward: int) -> None:
        self.port = 0
        self.delay_s = 0.0
        self.refusing = False
        self.connections = 0  # so far
        self.held = asyncio.Event()
        self._onward = onward
        self._marker = b""
        self._releasing = asyncio.Event()
        self._passing = asyncio.Event()
        self._passing.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.release()
        self.restore()
        self.cut()
        await asyncio.gather(*self._tasks)
        await self._server.wait_closed()

    def silence(self) -> None:
        self._passing.clear()

    def restore(self) -> None:
        """End a silence and a refusal."""
        self.refusing = False
        self._passing.set()

    def hold_answer_to(self, text: bytes) -> None:
        self._marker = text
        self.held.clear()
        self._releasing.clear()

    def release(self) -> None:
        self._releasing.set()

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        self.connections += 1
        try:
            await self._passing.wait()
            if not self.refusing:
                await self._join(reader, writer)
        except OSError:
            pass  # PostgreSQL does not listen
        finally:
            writer.transport.abort()
            self._writers.discard(writer)
            self._tasks.discard(task)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, onward = await asyncio.open_connection("127.0.0.1", self._onward)
        self._writers.add(onward)
        answers = asyncio.Event()  # cleared: the connection's answers are held
        answers.set()
        try:
            await asyncio.gather(
                self._pump(reader, onward, asks_for=answers), self._pump(there, writer, passes_while=answers)
            )
        finally:
            self._writers.discard(onward)
            onward.transport.abort()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        asks_for: asyncio.Event | None = None,
        passes_while: asyncio.Event | None = None,
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                await asyncio.sleep(self.delay_s)
                await self._passing.wait()
                holds = asks_for is not None and self._marker and self._marker in data
                if asks_for is not None and holds:
                    self._marker = b""
                    asks_for.clear()
                if passes_while is not None and not passes_while.is_set():
                    await self._releasing.wait()
                    passes_while.set()
                writer.write(data)
                await writer.drain()
                if holds:
                    self.held.set()
        await self._passing.wait()  # an end does not arrive either
        writer.transport.abort()
