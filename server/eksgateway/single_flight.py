"""A task that several callers share, so that the same work runs once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class SharedTask(Generic[T]):
    """Runs ``work`` for every caller that waits.

    When the last caller leaves early and ``may_abandon`` returns true, the task is cancelled. ``forget`` is
    called when the task ends, and at once when it is abandoned, so that no later caller joins it.
    """

    def __init__(
        self,
        work: Coroutine[Any, Any, T],
        *,
        forget: Callable[[], object] = lambda: None,
        may_abandon: Callable[[], bool] = lambda: False,
        name: str | None = None,
    ) -> None:
        self.waiting = 0
        self._forget = forget
        self._may_abandon = may_abandon
        self._task = asyncio.create_task(work, name=name)
        self._task.add_done_callback(self._end)

    async def wait(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109  the task outlives it
        """Wait for the end, at most ``timeout`` seconds; return whether the task has ended."""
        self.waiting += 1
        try:
            await asyncio.wait({self._task}, timeout=timeout)
            return self._task.done()
        finally:
            self.waiting -= 1
            if not self.waiting and not self._task.done() and self._may_abandon():
                self._task.cancel()
                self._forget()

    @property
    def done(self) -> bool:
        return self._task.done()

    @property
    def cancelled(self) -> bool:
        return self._task.cancelled()

    @property
    def error(self) -> BaseException | None:
        return self._task.exception()

    def result(self) -> T:
        return self._task.result()

    def cancel(self) -> None:
        self._task.cancel()

    async def stop(self, grace: float) -> None:
        """Give the task ``grace`` seconds, then cancel it. This does not count as a caller."""
        await asyncio.wait({self._task}, timeout=grace)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def _end(self, task: asyncio.Task[T]) -> None:
        self._forget()
        if not task.cancelled():
            task.exception()  # retrieved here, because no caller may be left to do it
