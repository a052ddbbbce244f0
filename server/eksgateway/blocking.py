"""Runs blocking calls on threads, for an event loop.

The threads are daemons, unlike those of an executor: a call that hangs does not keep the process from ending.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import Final, Generic, ParamSpec, TypeAlias, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_Queue: TypeAlias = SimpleQueue[Callable[[], None] | None]

READ_TIMEOUT_S: Final = 5.0
MAX_HANGING: Final = 8


async def run_blocking(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run one call on a thread of its own. A cancelled caller leaves at once; the call runs to its end.

    Raises what the call raises; RuntimeError when the machine has no thread left.
    """
    return await start_blocking(partial(call, *args, **kwargs))


def start_blocking(call: Callable[[], T], name: str = "blocking") -> asyncio.Future[T]:
    """As ``run_blocking``, without waiting."""
    threads = DaemonThreads(name)
    done = threads.start(call)
    threads.end()
    return done


class DaemonThreads:
    """Threads for one event loop, any number, reused once idle."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._idle: list[_Queue] = []
        self._busy: set[_Queue] = set()
        self._ended = False
        self._all_idle = asyncio.Event()

    def start(self, call: Callable[[], T], release: Callable[[], None] = lambda: None) -> asyncio.Future[T]:
        """Start a call. Cancelling the future of its result does not stop it.

        ``release`` is called once the call has ended. Raises RuntimeError, and calls nothing, when the
        machine has no thread left.
        """
        if self._ended:
            raise RuntimeError("these threads have ended")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        queue = self._idle.pop() if self._idle else _start_thread(self._name)

        def finish(deliver: Callable[[], None]) -> None:
            self._busy.remove(queue)
            self._idle.append(queue)
            if not self._busy:
                self._all_idle.set()
            release()
            if not done.done():  # else its caller has left
                deliver()

        def run() -> None:
            try:
                deliver = partial(done.set_result, call())
            except BaseException as exc:  # noqa: BLE001  raised again where the call is awaited
                deliver = partial(done.set_exception, exc)
            try:
                loop.call_soon_threadsafe(finish, deliver)
            except RuntimeError:  # the loop has ended without waiting for this thread
                queue.put(None)
            finally:
                del deliver  # an exception refers to this frame: without a cycle both are freed at once

        self._busy.add(queue)
        queue.put(run)
        return done

    def end(self) -> None:
        """Take no further calls."""
        self._ended = True
        for queue in (*self._idle, *self._busy):
            queue.put(None)

    async def close(self, timeout_s: float | None = None) -> None:
        """``end``, and wait for the calls under way."""
        self.end()
        self._all_idle.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._busy:
                    await self._all_idle.wait()


class RepeatedRead(Generic[T]):
    """Repeats one blocking read. Callers at the same time share it.

    A read may hang for good, for instance on a mount that was replaced. A second one starts beside it after
    5 s, a third 10 s later, and so on, up to ``MAX_HANGING`` threads.
    """

    def __init__(self, read: Callable[[], T], timeout_s: float = READ_TIMEOUT_S) -> None:
        self._read = read
        self._timeout_s = timeout_s
        self._newest: asyncio.Future[T] | None = None
        self._running = 0
        self._next_time = 0.0  # when a hanging read gets another beside it

    async def read(self) -> T:
        """Raises TimeoutError after ``timeout_s``, and what the read raises."""
        now = asyncio.get_running_loop().time()
        if self._newest is None or (now >= self._next_time and self._running < MAX_HANGING):
            self._newest = start_blocking(self._read, name="repeated-read")
            self._newest.add_done_callback(self._finish)
            self._next_time = now + self._timeout_s * 2**self._running
            self._running += 1
        async with asyncio.timeout(self._timeout_s):
            return await asyncio.shield(self._newest)

    def _finish(self, done: asyncio.Future[T]) -> None:
        self._running -= 1
        if self._newest is done:
            self._newest = None


def _start_thread(name: str) -> _Queue:
    """Return the queue of the thread's calls; a None ends it."""
    queue: _Queue = SimpleQueue()

    def run() -> None:
        while (call := queue.get()) is not None:
            call()
            del call  # and what it refers to, which would live until the next call

    Thread(target=run, name=name, daemon=True).start()
    return queue
