"""The revision in force, and waiting for another one."""

from __future__ import annotations

import asyncio


class Revision:
    """A revision that changes. For one event loop."""

    def __init__(self, current: str = "") -> None:
        self.current = current
        self._changed = asyncio.Event()

    def set(self, revision: str) -> bool:
        """Set the revision and wake all waiters. False if it is the current one already."""
        if revision == self.current:
            return False
        self.current = revision
        self._changed.set()
        self._changed = asyncio.Event()
        return True

    async def after(self, known: str) -> str:
        """Wait until the current revision differs from the known one, and return it."""
        while self.current == known:
            await self._changed.wait()
        return self.current
