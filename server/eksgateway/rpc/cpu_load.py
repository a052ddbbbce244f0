"""Whether this process has processor time to spare; knows no calls."""

from __future__ import annotations

import time

_BUSY = 0.6  # of one core: the event loop and the threads share one, because of the GIL


class CpuLoad:
    """Compares the processor time that the process has used with the time that has passed."""

    def __init__(self) -> None:
        self._now = time.monotonic()
        self._used = time.process_time()

    def idles(self) -> bool:
        """Whether less than ``_BUSY`` of a core was used since this was asked last."""
        now, used = time.monotonic(), time.process_time()
        busy = (used - self._used) / max(now - self._now, 1e-6)
        self._now, self._used = now, used
        return busy < _BUSY
