"""How long a poller rests between two looks at EKS."""

from __future__ import annotations

from random import Random

from eksgateway.settings import WatchSettings

_JITTER = 0.1  # pollers that began together drift apart
_LONGEST_BACKOFF_S = 60.0


class Pace:
    """The rest is ``poll_s`` while somebody watches and ``follow_s`` otherwise; doubled for each
    time in a row that EKS throttled, up to a minute; and short when a look is asked for, unless
    EKS throttles.
    """

    def __init__(self, settings: WatchSettings, random: Random) -> None:
        self._settings = settings
        self._random = random
        self._jitter = 1.0
        self._factor = 1.0

    def looked(self, *, throttled: bool) -> None:
        """Take note of how a look ended, and draw the jitter of the rest that follows it."""
        self._factor = min(self._factor * 2, 2.0**16) if throttled else 1.0
        self._jitter = self._random.uniform(1 - _JITTER, 1 + _JITTER)

    def rest(self, *, watched: bool, asked: bool) -> float:
        """Seconds from the last look to the next."""
        base = self._settings.poll_s if watched else self._settings.follow_s
        if self._factor > 1:
            return min(base * self._factor, max(base, _LONGEST_BACKOFF_S)) * self._jitter
        if asked:  # however often one asks, five looks for one
            return self._settings.poll_s / 5
        return base * self._jitter
