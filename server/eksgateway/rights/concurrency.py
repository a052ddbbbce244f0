"""A limit on concurrent tasks that slow tasks do not use up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class ConcurrencyLimit:
    """At most ``count`` tasks at once. A task slower than ``slow_s`` goes on, but is not counted any more."""

    def __init__(self, count: int, slow_s: float) -> None:
        self._free = asyncio.Semaphore(count)
        self._slow_s = slow_s

    async def acquire(self) -> Callable[[object], None]:
        """Wait until a task may start; return the function to call at its end.

        That function takes any argument, for ``Future.add_done_callback``.
        """
        await self._free.acquire()
        counted = True

        def release(_: object) -> None:
            nonlocal counted
            if counted:
                counted = False
                timer.cancel()
                self._free.release()

        timer = asyncio.get_running_loop().call_later(self._slow_s, release, None)
        return release
