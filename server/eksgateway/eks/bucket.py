"""The rate of calls that one account and region of EKS gets; pure: time is given."""

from __future__ import annotations

import math

_A_CANCEL = 3.0  # calls: two reads and CancelUpdate
_LEAST = 1 / 16  # of the rate, however much EKS throttles
_RECOVERY_S = 60.0  # from nothing to the whole rate
_NEARLY = 1e-6  # of a token: what adding up floats may lose


class Bucket:
    """Tokens that come in at a rate, one for each call; the reserve is for urgent calls alone.

    Others leave the reserve untouched, so it is full when somebody cancels, and while it is not,
    every token that comes in belongs to urgent calls. When EKS throttles, the rate halves and what
    was saved beyond the reserve is lost; then the rate grows back by the same amount each second.
    """

    def __init__(self, rate: float, now: float) -> None:
        self._whole = self._rate = rate
        self._reserve = max(_A_CANCEL, rate)
        self._size = self._reserve + max(1.0, rate)
        self._tokens = self._size
        self._now = now
        self._halved = -math.inf

    @property
    def rate(self) -> float:
        """Calls a second, as of the last call of a method."""
        return self._rate

    def take(self, now: float, *, urgent: bool) -> bool:
        """Take a token, if there is one for this kind of call."""
        if self.wait(now, urgent=urgent) > 0:
            return False
        self._tokens -= 1
        return True

    def wait(self, now: float, *, urgent: bool) -> float:
        """Seconds until ``take`` will succeed, if nobody else takes meanwhile; 0 when it does now."""
        self._pass(now)
        missing = (0.0 if urgent else self._reserve) + 1 - self._tokens
        return missing / self._rate if missing > _NEARLY else 0.0

    def throttled(self, now: float, began: float) -> bool:
        """EKS throttled a call that began then. Returns whether the rate was halved: calls that were
        under way at the last time already say nothing new.
        """
        if began <= self._halved:
            return False
        self._pass(now)
        self._halved = now
        self._rate = max(self._rate / 2, self._whole * _LEAST)
        self._tokens = min(self._tokens, self._reserve)
        return True

    def _pass(self, now: float) -> None:
        elapsed, self._now = now - self._now, now
        self._tokens = min(self._size, self._tokens + elapsed * self._rate)
        self._rate = min(self._whole, self._rate + elapsed * self._whole / _RECOVERY_S)
