"""The interval between two polls of one update."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Final
from zlib import crc32

from eksgateway.eks.shared_reads import SeenUpdate
from eksgateway.settings import WatchSettings

_JITTER: Final = 0.1  # pollers that start together drift apart
_RECENT_S: Final = 60.0  # changes come in groups: a cancel, its start, its end
_LAG_S: Final = (0.2, 0.5)  # behind the replica that read last, so that it reads again
_STRETCH: Final = 1 / 120  # of the time without a change: 5 s after ten minutes, 30 s after an hour


@dataclass(frozen=True, slots=True)
class Rest:
    """From one poll to the next (monotonic)."""

    begin: float
    end: float

    @property
    def middle(self) -> float:
        return (self.begin + self.end) / 2


class PollInterval:
    """``poll_s`` while watched, growing with the time without a change up to ``poll_max_s``.

    ``poll_min_s`` for a minute after a cancel or a change, and when a poll is requested. ``follow_s`` without
    watchers. Throttling has no effect here: the budget slows all polls alike.

    Replicas that share a read rest equally from its beginning, but for a lag of those that did not make it.
    """

    def __init__(self, settings: WatchSettings, random: Random, now: float) -> None:
        self._settings = settings
        self._random = random
        self._jitter = 1.0
        self._last_change = now
        self._unchanged_s = 0.0  # at the last poll
        self._changed = False
        self._lag = 0.0
        self.shared_begin: float | None = None  # of the last read, if replicas share it

    def record_change(self, now: float) -> None:
        self._last_change, self._unchanged_s, self._changed = now, 0.0, True

    def record_poll(self, now: float) -> None:
        self.shared_begin = None
        self._unchanged_s = now - self._last_change
        self._jitter = self._random.uniform(1 - _JITTER, 1 + _JITTER)

    def record_shared(self, key: str, seen: SeenUpdate, changed: float) -> None:
        """Record a read that replicas share, of an update that last ``changed`` then."""
        self.shared_begin = seen.began
        self._lag = 0.0 if seen.mine else self._random.uniform(*_LAG_S)
        if not self._changed or changed > self._last_change:
            self._last_change = changed
        self._unchanged_s = seen.began - self._last_change
        drawn = crc32(f"{key} {seen.observe_time.isoformat()}".encode()) / 2**32
        self._jitter = 1 - _JITTER + 2 * _JITTER * drawn

    def rest(self, ended: float, *, watched: bool, requested: bool) -> Rest:
        """The rest after a poll that ended then."""
        seconds = self.seconds(watched=watched, requested=requested)
        if self.shared_begin is None:
            return Rest(ended, ended + seconds)
        return Rest(self.shared_begin, self.shared_begin + seconds + self._lag)

    def seconds(self, *, watched: bool, requested: bool) -> float:
        """Seconds from the last poll to the next, without the lag."""
        shortest = min(self._settings.poll_min_s, self._settings.poll_s)
        if requested:  # also a bound on how often requests have an effect
            return shortest
        if not watched:
            return self._settings.follow_s * self._jitter
        if self._changed and self._unchanged_s < _RECENT_S:
            return shortest * self._jitter
        stretched = min(self._unchanged_s * _STRETCH, self._settings.poll_max_s)
        return max(self._settings.poll_s, stretched) * self._jitter
