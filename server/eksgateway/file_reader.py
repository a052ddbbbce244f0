"""Reads files for an event loop: a file system that hangs holds up neither it nor the end of the process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Final, Generic, TypeVar

T = TypeVar("T")

WITHIN_S: Final = 5.0
HUNG: Final = f"the file system has not answered for {WITHIN_S:g} s"
MOST_THREADS: Final = 8


class FileUnreadable(Exception):
    """A file cannot be read; the text names neither the file nor anything that it holds."""


def read_file(path: Path, most: int) -> bytes:
    """The content of a file of at most ``most`` bytes. Blocks: call it in a Reader. Raises FileUnreadable."""
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as exc:
        raise FileUnreadable(exc.strerror or type(exc).__name__) from exc
    if len(content) > most:
        raise FileUnreadable(f"is larger than {most} bytes")
    return content


class Reader(Generic[T]):
    """Repeats one blocking read, each time on a thread of its own. Callers at the same time share a read.

    A read that hangs may hang for good: what was mounted there is gone, and something else is mounted in
    its place. So another read is tried beside it once it has hung for 5 s, a third once that has hung for
    10 s, and so on. ``MOST_THREADS`` bounds the threads that a file can hold.
    """

    def __init__(self, read: Callable[[], T], within: float = WITHIN_S) -> None:
        self._read = read
        self._within = within
        self._newest: asyncio.Future[T] | None = None
        self._running = 0
        self._next_time = 0.0  # of the loop's clock: when a read that hangs gets another beside it

    async def read(self) -> T:
        """The result of the read, or its error. Raises TimeoutError after ``within`` seconds."""
        now = asyncio.get_running_loop().time()
        another = now >= self._next_time and self._running < MOST_THREADS
        if self._newest is None or another:
            self._next_time = now + self._within * 2**self._running
            self._newest = self._begin()
        async with asyncio.timeout(self._within):
            return await asyncio.shield(self._newest)

    def _begin(self) -> asyncio.Future[T]:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        self._running += 1

        def end() -> None:
            self._running -= 1
            if self._newest is done:
                self._newest = None

        def give(value: T) -> None:
            end()
            done.set_result(value)

        def fail(error: Exception) -> None:
            end()
            done.set_exception(error)
            done.exception()  # no caller may be waiting any more

        def run() -> None:
            with suppress(RuntimeError):  # the loop has ended without waiting for this thread
                try:
                    value = self._read()
                except Exception as exc:  # noqa: BLE001  it is the reader's
                    loop.call_soon_threadsafe(fail, exc)
                else:
                    loop.call_soon_threadsafe(give, value)

        # A daemon, unlike the threads of an executor: the end of the process does not wait for it.
        Thread(target=run, name="files", daemon=True).start()
        return done
