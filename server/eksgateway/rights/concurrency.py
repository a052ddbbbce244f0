"""How many do something at the same time, where the slow must not keep the others waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class ConcurrencyLimit:
    """``count`` places. Who holds one for ``slow_s`` seconds goes on without it, and makes room."""

    def __init__(self, count: int, slow_s: float) -> None:
        self._free = asyncio.Semaphore(count)
        self._slow_s = slow_s

    async def take(self) -> Callable[[object], None]:
        """Wait for a place; what is returned leaves it, when it is called with anything: it is for
        ``Future.add_done_callback``.
        """
        await self._free.acquire()
        held = True

        def leave(_: object) -> None:
            nonlocal held
            if held:
                held = False
                timer.cancel()
                self._free.release()

        timer = asyncio.get_running_loop().call_later(self._slow_s, leave, None)
        return leave
