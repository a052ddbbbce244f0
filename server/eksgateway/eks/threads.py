"""Runs blocking boto3 calls on a bounded number of threads, with a bounded queue.

Reads hold at most three quarters of both, so that watches never starve cancels. Reads that a cancel needs
hold at most seven eighths, so that a cancel that was allowed can be sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar

from eksgateway.blocking import DaemonThreads
from eksgateway.errors import Draining, Overloaded

T = TypeVar("T")

_CLOSE_TIMEOUT_S: Final = 2.0


class _Share:
    """The threads that some calls may hold, and how many of these calls may hold or wait for one."""

    def __init__(self, threads: int, waiting: int) -> None:
        self.threads = asyncio.Semaphore(max(1, threads))
        self.free = max(1, threads) + max(1, waiting)  # two at least: the reads of a cancel


class Threads:
    """At most ``size`` threads; at most ``waiting`` calls wait for one. Past that, calls raise Overloaded.

    Belongs to one event loop.
    """

    def __init__(self, size: int, waiting: int) -> None:
        every, for_cancels, reads = (_Share(size * n // 8, waiting * n // 8) for n in (8, 7, 6))
        self._cancel_shares = (every,)
        self._cancel_read_shares = (for_cancels, every)
        self._read_shares = (reads, for_cancels, every)
        self._threads = DaemonThreads("eks")
        self._closed = False

    async def read(self, call: Callable[[], T]) -> T:
        return await self._run(call, self._read_shares)

    async def read_for_cancel(self, call: Callable[[], T]) -> T:
        return await self._run(call, self._cancel_read_shares)

    async def cancel(self, call: Callable[[], T]) -> T:
        return await self._run(call, self._cancel_shares)

    async def close(self) -> None:
        """Wait up to 2 s for calls under way, then leave them behind. Calls that wait raise Draining."""
        self._closed = True
        await self._threads.close(_CLOSE_TIMEOUT_S)

    async def _run(self, call: Callable[[], T], shares: tuple[_Share, ...]) -> T:
        if not all(share.free for share in shares):
            raise Overloaded
        for share in shares:
            share.free -= 1
        held: list[_Share] = []
        try:
            for share in shares:
                await share.threads.acquire()
                held.append(share)
            # A cancelled caller leaves at once; its shares count until the call has ended.
            done = self._start(call, partial(_release, shares, held))
        except BaseException:
            _release(shares, held)
            raise
        return await done

    def _start(self, call: Callable[[], T], release: Callable[[], None]) -> asyncio.Future[T]:
        if self._closed:
            raise Draining
        try:
            return self._threads.start(call, release)
        except RuntimeError as exc:  # the machine has no thread left
            raise Overloaded(detail=str(exc)) from exc


def _release(admitted: tuple[_Share, ...], held: list[_Share]) -> None:
    for share in held:
        share.threads.release()
    for share in admitted:
        share.free += 1
