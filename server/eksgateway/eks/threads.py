"""The one place that hops to threads: a bounded pool with a bounded queue, for blocking boto3 calls.

Reads may hold three quarters of the threads and of the queue at most, so that watches never
starve cancels. Belongs to one event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TypeVar

from eksgateway.errors import Draining, Overloaded

T = TypeVar("T")


class _Lane:
    """Slots that are held until a thread ends, and how many may hold or wait for one."""

    def __init__(self, slots: int, waiting: int) -> None:
        self.slots = asyncio.Semaphore(slots)
        self._room = slots + waiting

    @contextmanager
    def admitted(self) -> Iterator[None]:
        if self._room == 0:
            raise Overloaded
        self._room -= 1
        try:
            yield
        finally:
            self._room += 1


class Threads:
    """Runs blocking work off the loop. ``size`` threads, and ``waiting`` places for those who wait."""

    def __init__(self, size: int, waiting: int) -> None:
        self._pool = ThreadPoolExecutor(size, thread_name_prefix="eks")
        self._all = _Lane(size, waiting)
        self._reads = _Lane(max(1, size * 3 // 4), waiting * 3 // 4)
        self._closed = False

    async def read(self, work: Callable[[], T]) -> T:
        """Do work that can be done without; it yields to cancels. Raises Overloaded at the bound."""
        return await self._run(work, (self._reads, self._all))

    async def cancel(self, work: Callable[[], T]) -> T:
        """Do work for which room is kept. Raises Overloaded at the bound."""
        return await self._run(work, (self._all,))

    async def close(self) -> None:
        """Wait for running work and end the threads; who still waits for one gets Draining."""
        self._closed = True
        await asyncio.to_thread(self._pool.shutdown)

    async def _run(self, work: Callable[[], T], lanes: tuple[_Lane, ...]) -> T:
        with ExitStack() as held:
            for lane in lanes:
                held.enter_context(lane.admitted())
            for lane in lanes:
                await lane.slots.acquire()
                held.callback(lane.slots.release)
            if self._closed:
                raise Draining
            future = self._pool.submit(work)
            # From here on everything is held until the thread ends, whether or not the caller waits.
            release = partial(asyncio.get_running_loop().call_soon_threadsafe, held.pop_all().close)
            future.add_done_callback(lambda _: release())
        return await asyncio.wrap_future(future)
