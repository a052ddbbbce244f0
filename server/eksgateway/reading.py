"""Reads files for an event loop: a file system that hangs holds up neither it nor the end of the process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from typing import Final, Generic, TypeVar

T = TypeVar("T")

WITHIN_S: Final = 5.0
HUNG: Final = f"the file system has not answered for {WITHIN_S:g} s"


class Reader(Generic[T]):
    """Does one blocking read again and again, each on a thread of its own, and never two at once."""

    def __init__(self, read: Callable[[], T]) -> None:
        self._read = read
        self._under_way: asyncio.Future[T] | None = None

    async def read(self) -> T:
        """What is read, or its error. Raises TimeoutError after WITHIN_S; the thread is left behind then,
        and whoever reads next waits for that same one.
        """
        if self._under_way is None:
            self._under_way = self._begin()
        async with asyncio.timeout(WITHIN_S):
            return await asyncio.shield(self._under_way)

    def _begin(self) -> asyncio.Future[T]:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()

        def give(value: T) -> None:
            self._under_way = None
            done.set_result(value)

        def fail(error: Exception) -> None:
            self._under_way = None
            done.set_exception(error)
            done.exception()  # nobody may be waiting any more

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
