"""Ends what a call waits for when that takes too long; what it waits for is not known here."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable


class Deadline:
    """Cancels the task that serves a call, at a time that moves with each step of it.

    ``asyncio.timeout`` around each step costs a timer each, and a tenth of a denied call; here one
    timer goes on, looks when it is due whether the time has been moved, and waits for the rest.
    Times are the event loop's: they bound real sockets.
    """

    __slots__ = ("_due", "_loop", "_passed", "_task", "_timer", "_why")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._due = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._why: Callable[[], Exception] | None = None
        self._passed = False

    @property
    def now(self) -> float:
        return self._loop.time()

    def set(self, due: float, why: Callable[[], Exception] | None = None) -> None:
        """From now on it is this time, infinite for none; ``why`` makes the error of what is late then."""
        self._due, self._why = due, why
        if self._timer is not None and due < self._timer.when():
            self.close()
        if self._timer is None and due < math.inf:
            self._timer = self._loop.call_at(due, self._look)

    def error(self) -> Exception | None:
        """For who caught a CancelledError: what is late, if the deadline cancelled and nobody else did."""
        if not self._passed or self._task is None:
            return None
        self._passed = False
        return self._why() if self._why is not None and not self._task.uncancel() else None

    def close(self) -> None:
        """Let go of the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if self._loop.time() < self._due:
            self.set(self._due, self._why)
        elif self._task is not None:
            self._passed = True
            self._task.cancel()
