"""Time, injected: wall-clock time for records and rights, monotonic time for order and ages."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol, Self


class Timer(Protocol):
    def cancel(self) -> object: ...


class Clock(Protocol):
    def now(self) -> datetime:
        """Wall-clock time, timezone-aware, UTC."""

    def monotonic(self) -> float:
        """Seconds that never go back."""

    async def sleep(self, seconds: float) -> None: ...

    def call_later(self, seconds: float, call: Callable[[], object]) -> Timer:
        """Takes a tenth of the memory of a task that sleeps."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment by both clocks: the monotonic one stands still while the machine is suspended.

    It has passed when either clock has reached it. So a wall clock that is set can only bring it forward.
    """

    monotonic: float
    wall: datetime

    @classmethod
    def after(cls, clock: Clock, seconds: float) -> Self:
        return cls(clock.monotonic() + seconds, clock.now() + timedelta(seconds=seconds))

    def has_passed(self, clock: Clock) -> bool:
        return clock.monotonic() >= self.monotonic or clock.now() >= self.wall


async def wait_for(event: asyncio.Event, clock: Clock, seconds: float) -> bool:
    """Wait at most ``seconds``; return whether the event is set."""
    if event.is_set() or seconds <= 0:
        return event.is_set()
    waiting = asyncio.ensure_future(event.wait())
    timer = clock.call_later(seconds, waiting.cancel)
    try:
        await asyncio.wait((waiting,))
    finally:
        timer.cancel()
        waiting.cancel()
    return event.is_set()


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def call_later(self, seconds: float, call: Callable[[], object]) -> Timer:
        return asyncio.get_running_loop().call_later(seconds, call)
