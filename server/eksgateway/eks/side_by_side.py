"""Two reads at once, with the errors of one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
U = TypeVar("U")


async def do_both(first: Awaitable[T], second: Coroutine[Any, Any, U]) -> tuple[T, U]:
    """The error of ``first`` comes first, whichever fails first. ``second`` ends with it: no task is left."""
    task = asyncio.create_task(second)
    try:
        return await first, await task
    except BaseException:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        raise
