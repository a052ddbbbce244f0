"""A queue of work for one statement at a time, which serves many callers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from copy import copy
from typing import Final, Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

_LIMIT: Final = 256


class StatementQueue(Generic[K, V]):
    """Runs one statement at a time. All that is asked while one is under way goes into the next one.

    ``run`` gets the items in the order in which they were asked, and returns an answer for each.
    """

    def __init__(self, run: Callable[[list[K]], Awaitable[Sequence[V]]], limit: int = _LIMIT) -> None:
        self._run = run
        self._limit = limit
        self._waiting: list[tuple[K, asyncio.Future[V]]] = []
        self._task: asyncio.Task[None] | None = None

    async def ask(self, item: K) -> V:
        """Raises what ``run`` raises, a copy for each asker. The items of cancelled askers are left out."""
        answer: asyncio.Future[V] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, answer))
        if self._task is None:
            self._task = asyncio.create_task(self._run_all())
        return await answer

    async def _run_all(self) -> None:
        while batch := self._next():
            try:
                answers = await self._run([item for item, _ in batch])
                for (_, asker), answer in zip(batch, answers, strict=True):
                    if not asker.done():
                        asker.set_result(answer)
            except Exception as exc:  # noqa: BLE001  raised again where it was asked
                for _, asker in batch:
                    if not asker.done():
                        asker.set_exception(copy(exc))
        self._task = None

    def _next(self) -> list[tuple[K, asyncio.Future[V]]]:
        waiting = [each for each in self._waiting if not each[1].done()]
        self._waiting = waiting[self._limit :]
        return waiting[: self._limit]
