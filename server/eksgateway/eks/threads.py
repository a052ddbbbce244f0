"""The one place that hops to threads: a bounded pool with a bounded queue, for blocking boto3 calls.

Reads may hold three quarters of the threads and of the queue at most, so that watches never
starve cancels; what cancels read may hold seven eighths, so that what was decided is sent.
Belongs to one event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread
from typing import Any, Generic, TypeVar, cast

from eksgateway.errors import Draining, Overloaded

T = TypeVar("T")

_LAST_MOMENT_S = 2.0


class _Lane:
    """Slots that are held until work ends, and how many may hold or wait for one."""

    def __init__(self, slots: int, waiting: int) -> None:
        self.slots = asyncio.Semaphore(max(1, slots))
        self._room = max(1, slots) + waiting

    @contextmanager
    def admitted(self) -> Iterator[None]:
        if self._room == 0:
            raise Overloaded
        self._room -= 1
        try:
            yield
        finally:
            self._room += 1


class _Worker:
    """A thread that does what it is given, one after the other, until it is given None."""

    def __init__(self) -> None:
        self.given: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        # A daemon, unlike the threads of an executor: the end of the process does not wait for it.
        Thread(target=self._run, name="eks", daemon=True).start()

    def _run(self) -> None:
        while (work := self.given.get()) is not None:
            work()
            del work  # and with it what it holds


class Threads:
    """Runs blocking work off the loop. ``size`` threads, and ``waiting`` places for those who wait.

    A thread is started when there is work and no other is idle; then it stays.
    """

    def __init__(self, size: int, waiting: int) -> None:
        all_, looks, reads = (_Lane(size * n // 8, waiting * n // 8) for n in (8, 7, 6))
        self._cancelling, self._looking, self._reading = (all_,), (looks, all_), (reads, looks, all_)
        self._idle: list[_Worker] = []
        self._running: set[asyncio.Future[Any]] = set()
        self._closed = False

    async def read(self, work: Callable[[], T]) -> T:
        """Do work that can be done without; it yields to cancels. Raises Overloaded at the bound."""
        return await self._run(work, self._reading)

    async def look(self, work: Callable[[], T]) -> T:
        """Do work that a cancel needs before it is decided. Raises Overloaded at the bound."""
        return await self._run(work, self._looking)

    async def cancel(self, work: Callable[[], T]) -> T:
        """Do work for which room is kept. Raises Overloaded at the bound."""
        return await self._run(work, self._cancelling)

    async def close(self) -> None:
        """Wait a moment for running work; who still waits for a thread gets Draining.

        What EKS keeps waiting longer is left behind, and does not keep the process from ending.
        """
        self._closed = True
        while self._idle:
            self._idle.pop().given.put(None)
        if self._running:
            await asyncio.wait(self._running, timeout=_LAST_MOMENT_S)

    async def _run(self, work: Callable[[], T], lanes: tuple[_Lane, ...]) -> T:
        with ExitStack() as held:
            for lane in lanes:
                held.enter_context(lane.admitted())
            for lane in lanes:
                await lane.slots.acquire()
                held.callback(lane.slots.release)
            if self._closed:
                raise Draining
            try:
                worker = self._idle.pop() if self._idle else _Worker()
            except RuntimeError as exc:  # the machine gives no more threads
                raise Overloaded(detail=str(exc)) from exc
            # From here on everything is held until the work ends, whether or not the caller waits.
            done = self._give(worker, work, held.pop_all().close)
        return await asyncio.shield(done)

    def _give(self, worker: _Worker, work: Callable[[], T], release: Callable[[], None]) -> asyncio.Future[T]:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        self._running.add(done)

        def run() -> None:
            result = _result(work)
            try:
                loop.call_soon_threadsafe(ended, result)
            except RuntimeError:  # the loop has ended without waiting for this thread
                worker.given.put(None)

        def ended(result: _Result[T]) -> None:
            if self._closed:
                worker.given.put(None)
            else:
                self._idle.append(worker)
            release()
            self._running.discard(done)
            if result.error is None:
                done.set_result(cast("T", result.value))
            else:
                done.set_exception(result.error)
                done.exception()  # the caller may have left

        worker.given.put(run)
        return done


@dataclass(frozen=True, slots=True)
class _Result(Generic[T]):
    value: T | None = None
    error: BaseException | None = None


def _result(work: Callable[[], T]) -> _Result[T]:
    try:
        return _Result(work())
    except BaseException as exc:  # noqa: BLE001  it is the caller's
        return _Result(error=exc)
