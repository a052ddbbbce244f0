"""Waiting for a condition."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

DEADLINE_S = 100.0  # an idle machine needs none of it


async def wait_until(condition: Callable[[], T], deadline_s: float = DEADLINE_S) -> T:
    """Poll a condition of other threads, files or processes. Returns its first true value."""
    async with asyncio.timeout(deadline_s):
        while not (found := condition()):  # noqa: ASYNC110  it has no event
            await asyncio.sleep(0.01)
        return found
