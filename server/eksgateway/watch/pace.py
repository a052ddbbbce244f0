"""How long a poller rests between two looks at EKS."""

from __future__ import annotations

from random import Random

from eksgateway.settings import WatchSettings

_JITTER = 0.1  # pollers that began together drift apart
_NEAR_S = 60.0  # changes come in groups: a cancel, its beginning, its end
_SLOWER = 1 / 120  # of the time without a change: what took ten minutes may be known 5 s late, an hour 30 s


class Pace:
    """While somebody watches, the rest is ``poll_s``; ``poll_min_s`` for a minute after a cancel or a
    change; and it grows with the time without one, up to ``poll_max_s``. It is ``follow_s`` while
    nobody watches, and ``poll_min_s`` when a look is asked for. How it goes on when EKS throttles is
    the budget's affair, so that all updates grow old alike.
    """

    def __init__(self, settings: WatchSettings, random: Random, now: float) -> None:
        self._settings = settings
        self._random = random
        self._jitter = 1.0
        self._since = now  # no change since
        self._calm = 0.0  # how long it had been so at the last look
        self._near = False  # a change has been seen at all

    def changed(self, now: float) -> None:
        """Take note of a cancel or a change."""
        self._since, self._calm, self._near = now, 0.0, True

    def looked(self, now: float) -> None:
        """Take note of a look, and draw the jitter of the rest that follows it."""
        self._calm = now - self._since
        self._jitter = self._random.uniform(1 - _JITTER, 1 + _JITTER)

    def rest(self, *, watched: bool, asked: bool) -> float:
        """Seconds from the last look to the next."""
        shortest = min(self._settings.poll_min_s, self._settings.poll_s)
        if asked:  # however often one asks
            return shortest
        if not watched:
            return self._settings.follow_s * self._jitter
        if self._near and self._calm < _NEAR_S:
            return shortest * self._jitter
        slower = min(self._calm * _SLOWER, self._settings.poll_max_s)
        return max(self._settings.poll_s, slower) * self._jitter
