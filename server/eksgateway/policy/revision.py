"""The revision in force, and those who wait for the next one."""

from __future__ import annotations

import asyncio


class Revision:
    """A revision that changes. For one event loop."""

    def __init__(self, current: str = "") -> None:
        self.current = current
        self._changed = asyncio.Event()

    def set(self, revision: str) -> bool:
        """Whether it is another one; then everybody who waits is told."""
        if revision == self.current:
            return False
        self.current = revision
        self._changed.set()
        self._changed = asyncio.Event()
        return True

    async def after(self, known: str) -> str:
        """The current one, as soon as it differs from the one that is known."""
        while self.current == known:
            await self._changed.wait()
        return self.current
