"""Cancels a call's task at a deadline that moves with each step of the call."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Final

_CHECK_S: Final = 1.0  # a timer fires after at most this, so that a short call's steps share one: 6 µs less


class Deadline:
    """One timer for all steps: ``asyncio.timeout`` around each costs a tenth of a denied call's time.

    When it fires it checks whether the deadline has moved. Times are the event loop's, because they bound
    real sockets.
    """

    __slots__ = ("_due", "_expired", "_loop", "_make_error", "_task", "_timer")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._due = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._make_error: Callable[[], Exception] | None = None
        self._expired = False

    @property
    def now(self) -> float:
        return self._loop.time()

    def set(self, due: float, make_error: Callable[[], Exception] | None = None) -> None:
        """``math.inf`` is no deadline. ``make_error`` makes the error of a step that is late."""
        self._due, self._make_error = due, make_error
        if self._timer is not None and due < self._timer.when():
            self.close()
        if self._timer is None and due < math.inf:
            self._timer = self._loop.call_at(min(due, self._loop.time() + _CHECK_S), self._fire)

    def error(self) -> Exception | None:
        """For a task that caught CancelledError. None unless only the deadline cancelled it."""
        if not self._expired or self._task is None:
            return None
        self._expired = False
        return self._make_error() if self._make_error is not None and not self._task.uncancel() else None

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self) -> None:
        self._timer = None
        if self._loop.time() < self._due:
            self.set(self._due, self._make_error)
        elif self._task is not None:
            self._expired = True
            self._task.cancel()
