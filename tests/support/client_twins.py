"""The asynchronous and the synchronous client behind one interface for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any, Literal, TypeAlias

from eksgateway import client
from eksgateway.client import Knowledge, Timing, sync
from eksgateway.v1.cancellation_pb2 import Cancellation
from support.waiting import wait_until

Twin: TypeAlias = Literal["asynchronous", "synchronous"]
TWINS: tuple[Twin, ...] = ("asynchronous", "synchronous")
QUICK = Timing(first_backoff_s=0.05, longest_backoff_s=0.2)
OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
)


async def cancel(twin: Twin, address: str, cluster: str, update_id: str, **options: Any) -> Cancellation:
    """One ``cancel`` over channels of its own."""
    options = {"timing": QUICK} | options
    if twin == "asynchronous":
        async with client.Channels(address, options=OPTIONS) as channels:
            return await client.cancel(channels, cluster, update_id, **options)

    def run() -> Cancellation:
        with sync.Channels(address, options=OPTIONS) as channels:
            return sync.cancel(channels, cluster, update_id, **options)

    return await asyncio.to_thread(run)


class Reader:
    """Reads a watch in the background. ``method`` is ``watch`` or ``cancel_and_watch``."""

    def __init__(self, twin: Twin, address: str, method: str, *what: str, **options: Any) -> None:
        self.received: list[Cancellation | Knowledge] = []
        self._method, self._what, self._options = method, what, {"timing": QUICK} | options
        self._states: sync.States[Any] | None = None
        read = (
            self._read(address) if twin == "asynchronous" else asyncio.to_thread(self._read_blocking, address)
        )
        self.task = asyncio.ensure_future(read)

    async def _read(self, address: str) -> None:
        async with client.Channels(address, options=OPTIONS) as channels:
            states = getattr(client, self._method)(channels, *self._what, **self._options)
            async with aclosing(states):
                async for each in states:
                    self.received.append(each)

    def _read_blocking(self, address: str) -> None:
        with sync.Channels(address, options=OPTIONS) as channels:
            self._states = states = getattr(sync, self._method)(channels, *self._what, **self._options)
            with states:
                self.received.extend(states)

    async def stop(self) -> None:
        """End the call if it is still open."""
        if self._states is not None:
            await asyncio.to_thread(self._states.close)
        elif not self.task.done():
            self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    @property
    def states(self) -> list[Knowledge]:
        return [each for each in self.received if isinstance(each, Knowledge)]

    async def wait_for_status(self, status: str) -> None:
        """Wait until it received this status last, or has ended."""
        await wait_until(
            lambda: self.task.done() or [each.update.status for each in self.states][-1:] == [status]
        )
        assert self.states, self.task
        assert self.states[-1].update.status == status, self.task


@asynccontextmanager
async def reading(twin: Twin, address: str, method: str, *what: str, **options: Any) -> AsyncIterator[Reader]:
    reader = Reader(twin, address, method, *what, **options)
    try:
        yield reader
    finally:
        await reader.stop()
