"""The rate at which EKS is called in one account and region. Pure: the time is an argument."""

from __future__ import annotations

import math
from typing import Final

CALLS_OF_A_CANCEL: Final = 3  # two reads and CancelUpdate
_LEAST: Final = 1 / 16  # of the rate, however often EKS throttles
_RECOVERY_S: Final = 60.0  # from zero to the full rate
_ROUNDING: Final = 1e-6  # of a token: what adding floats may lose


class TokenBucket:
    """One token per call, refilled at ``rate`` per second. The reserve is for urgent calls only: while it is
    not full, every new token goes to them.

    When EKS throttles, the rate halves and tokens above the reserve are lost; then the rate grows back
    linearly. ``rate`` is that of the last call of a method.
    """

    def __init__(self, rate: float, now: float) -> None:
        self._full_rate = self.rate = rate
        self.reserve = max(CALLS_OF_A_CANCEL, rate)
        self.size = self.reserve + max(1.0, rate)
        self._tokens = self.size
        self._now = now
        self._halved_at = -math.inf

    @classmethod
    def share(cls, full_rate: float, rate: float, replicas: int, now: float) -> TokenBucket:
        """An equal part of a bucket for one of several replicas: empty, and without a reserve."""
        part = cls(full_rate / replicas, now)
        part.rate = rate / replicas
        part.size = max(2.0, cls(full_rate, now).size / replicas)  # the reads of a cancel take two at once
        part.reserve = part._tokens = 0.0
        return part

    def take(self, now: float, *, urgent: bool, calls: int = 1) -> bool:
        if self.wait(now, urgent=urgent, calls=calls) > 0:
            return False
        self._tokens -= calls
        return True

    def give_back(self) -> None:
        """Return the token of a call that was not made."""
        self._tokens = min(self.size, self._tokens + 1)

    def wait(self, now: float, *, urgent: bool, calls: int = 1) -> float:
        """Seconds until ``take`` succeeds if no other call takes a token before."""
        self._advance(now)
        missing = (0.0 if urgent else self.reserve) + calls - self._tokens
        return missing / self.rate if missing > _ROUNDING else 0.0

    def missing(self, now: float) -> float:
        """The tokens until it is full."""
        self._advance(now)
        return self.size - self._tokens

    def throttle(self, now: float, began: float) -> bool:
        """Halve the rate because EKS throttled a call that began then. Returns whether it was halved.

        A call that began before the rate was last halved does not halve it again.
        """
        if began <= self._halved_at:
            return False
        self._advance(now)
        self._halved_at = now
        self.rate = max(self.rate / 2, self._full_rate * _LEAST)
        self._tokens = min(self._tokens, self.reserve)
        return True

    def _advance(self, now: float) -> None:
        elapsed, self._now = now - self._now, now
        self._tokens = min(self.size, self._tokens + elapsed * self.rate)
        self.rate = min(self._full_rate, self.rate + elapsed * self._full_rate / _RECOVERY_S)
