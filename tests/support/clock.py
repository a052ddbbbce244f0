"""Clocks that tests move."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from eksgateway.clock import Deadline, SystemClock

NEVER = Deadline(math.inf, datetime.max.replace(tzinfo=UTC))

# In each round every ready task takes one step. This bounds the steps in a row that one wake-up may cause,
# not the number of tasks.
_ROUNDS = 50


async def settle() -> None:
    """Run every task until it waits for time or for I/O."""
    for _ in range(_ROUNDS):
        await asyncio.sleep(0)


class FakeClock:
    """Implements ``eksgateway.clock.Clock``; stands still until ``advance``.

    Sleepers wake in the order of their deadlines. After each, the event loop runs until every task waits
    again.
    """

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._wall = start
        self._monotonic = 1000.0
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        return self._wall

    def monotonic(self) -> float:
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        await self._after(seconds)

    def call_later(self, seconds: float, call: Callable[[], object]) -> asyncio.Future[None]:
        woken = self._after(seconds)
        woken.add_done_callback(lambda _: None if woken.cancelled() else call())
        return woken

    def _after(self, seconds: float) -> asyncio.Future[None]:
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._monotonic + seconds, next(self._order), woken))
        return woken

    @property
    def sleepers(self) -> int:
        """Number of tasks that sleep on this clock."""
        return sum(not woken.done() for _, _, woken in self._sleepers)

    async def advance(self, seconds: float = 0) -> None:
        """Move both clocks ahead and wake each sleeper at its time. Without seconds, only settle."""
        end = self._monotonic + seconds
        await settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            deadline, _, woken = heapq.heappop(self._sleepers)
            if woken.done():  # cancelled while asleep
                continue
            self._move_to(deadline)
            woken.set_result(None)
            await settle()
        self._move_to(end)

    def jump(self, seconds: float) -> None:
        """Set the wall clock alone, as an administrator or NTP does; no sleeper wakes."""
        self._wall += timedelta(seconds=seconds)

    def _move_to(self, monotonic: float) -> None:
        self._wall += timedelta(seconds=monotonic - self._monotonic)
        self._monotonic = monotonic


class AdvancedClock(SystemClock):
    """The machine's clock, with the wall time set ahead."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def now(self) -> datetime:
        return super().now() + self.ahead
