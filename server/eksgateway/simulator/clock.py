"""The simulated clock of durations. It runs ``speed`` times as fast as real time and can be advanced.

Times of day that clients see (``createdAt``) are real, because clients compare them with their own clocks.
"""

from __future__ import annotations

import time
from collections.abc import Callable


class SimulatedClock:
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
        if seconds < 0:
            raise ValueError("time does not run backwards: advance_s must be 0 or more")
        self._ahead += seconds
