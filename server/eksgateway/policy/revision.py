"""The revision in force."""

from __future__ import annotations

import asyncio


class Revision:
    """For one event loop."""

    def __init__(self, current: str = "") -> None:
        self.current = current
        self._changed = asyncio.Event()

    def set(self, revision: str) -> bool:
        """False if it is the current revision already."""
        if revision == self.current:
            return False
        self.current = revision
        self._changed.set()
        self._changed = asyncio.Event()
        return True

    async def after(self, known: str) -> str:
        while self.current == known:
            await self._changed.wait()
        return self.current
