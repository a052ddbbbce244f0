"""The simulated clock: seconds that run ``speed`` times as fast as real ones and can be pushed ahead.

Durations of updates are counted on it. What clients see as a time of day (``createdAt``) is real,
because they compare it with their own clocks.
"""

from __future__ import annotations

import time
from collections.abc import Callable


class SimulatedClock:
    """Counts from 0. ``monotonic`` is the real clock beneath, in seconds."""

    def __init__(self, speed: float = 1.0, monotonic: Callable[[], float] = time.monotonic) -> None:
        if not speed > 0:
            raise ValueError(f"speed must be above 0, not {speed}")
        self.speed = speed
        self._monotonic = monotonic
        self._start = monotonic()
        self._ahead = 0.0

    def now(self) -> float:
        """Simulated seconds since the start."""
        return (self._monotonic() - self._start) * self.speed + self._ahead

    def advance(self, seconds: float) -> None:
        """Let this much simulated time pass at once."""
        if seconds < 0:
            raise ValueError("time does not run backwards: advance_s must be 0 or more")
        self._ahead += seconds
