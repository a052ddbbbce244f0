"""The one place that hops to threads: a bounded pool with a bounded queue, for blocking boto3 calls.

Reads may hold three quarters of the threads and of the queue at most, so that watches never
starve cancels. Belongs to one event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from threading import Thread
from typing import Any, TypeVar

from eksgateway.errors import Draining, Overloaded

T = TypeVar("T")

_LAST_MOMENT_S = 2.0


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
        self._all = _Lane(size, waiting)
        self._reads = _Lane(max(1, size * 3 // 4), waiting * 3 // 4)
        self._running: set[Future[Any]] = set()
        self._closed = False

    async def read(self, work: Callable[[], T]) -> T:
        """Do work that can be done without; it yields to cancels. Raises Overloaded at the bound."""
        return await self._run(work, (self._reads, self._all))

    async def cancel(self, work: Callable[[], T]) -> T:
        """Do work for which room is kept. Raises Overloaded at the bound."""
        return await self._run(work, (self._all,))

    async def close(self) -> None:
        """Wait a moment for running work; who still waits for a thread gets Draining.

        What EKS keeps waiting longer is left behind, and does not keep the process from ending.
        """
        self._closed = True
        running = [asyncio.wrap_future(future) for future in self._running]
        if running:
            _, late = await asyncio.wait(running, timeout=_LAST_MOMENT_S)
            for each in late:
                each.cancel()
            await asyncio.gather(*running, return_exceptions=True)  # told to whoever asked

    async def _run(self, work: Callable[[], T], lanes: tuple[_Lane, ...]) -> T:
        with ExitStack() as held:
            for lane in lanes:
                held.enter_context(lane.admitted())
            for lane in lanes:
                await lane.slots.acquire()
                held.callback(lane.slots.release)
            if self._closed:
                raise Draining
            future: Future[T] = Future()
            self._running.add(future)
            held.callback(self._running.discard, future)
            # From here on everything is held until the thread ends, whether or not the caller waits.
            release, loop = held.pop_all().close, asyncio.get_running_loop()

        def run() -> None:
            try:
                if future.set_running_or_notify_cancel():  # else the caller left before it began
                    _settle(future, work)
            finally:
                with suppress(RuntimeError):  # the loop has ended without waiting for this thread
                    loop.call_soon_threadsafe(release)

        try:
            # A daemon, unlike the threads of an executor: the end of the process does not wait for it.
            Thread(target=run, name="eks", daemon=True).start()
        except RuntimeError as exc:  # the machine gives no more threads
            release()
            raise Overloaded(detail=str(exc)) from exc
        return await asyncio.wrap_future(future)


def _settle(future: Future[T], work: Callable[[], T]) -> None:
    try:
        result = work()
    except BaseException as exc:  # noqa: BLE001  it is the caller's
        future.set_exception(exc)
    else:
        future.set_result(result)
