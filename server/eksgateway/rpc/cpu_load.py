"""Measures how much of a core this process uses."""

from __future__ import annotations

import time
from typing import Final

_BUSY: Final = 0.6  # of the one core that all threads share, because of the GIL


class CpuLoad:
    def __init__(self) -> None:
        self._now = time.monotonic()
        self._used = time.process_time()

    def is_low(self) -> bool:
        """Whether the process used less than ``_BUSY`` of a core since the last call."""
        now, used = time.monotonic(), time.process_time()
        load = (used - self._used) / max(now - self._now, 1e-6)
        self._now, self._used = now, used
        return load < _BUSY
