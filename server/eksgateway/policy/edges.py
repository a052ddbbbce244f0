"""Edges: the times at which decisions change under one revision of the policy."""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

_UTC_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_WEEK_S: Final = 7 * 24 * 3600
_FIRST_S: Final = -62135596800  # 0001-01-01
_LAST_S: Final = 253402300799  # 9999-12-31T23:59:59Z
_MONDAY_S: Final = 3 * 24 * 3600  # from 1970, a Thursday, back to Monday


def is_utc_time(text: str) -> bool:
    """Whether the text has the form ``YYYY-MM-DDThh:mm:ssZ``. The time need not exist."""
    return _UTC_TIME.fullmatch(text) is not None


def parse_time(text: Any) -> datetime | None:
    """None if the text is not a time."""
    if not isinstance(text, str) or not is_utc_time(text):
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def second_of_week(second: int, offset: int) -> int:
    """The second of the local week, which begins on Monday at 00:00, at a POSIX second."""
    return (second + offset + _MONDAY_S) % _WEEK_S


@dataclass(frozen=True)
class ZoneEdges:
    """Edges that recur every week, in the stretches ``(begins, ends, offset)`` of one zone.

    Edges at a stretch's begin or end are not among them.
    """

    seconds: Sequence[int]  # of the local week, ascending
    stretches: Sequence[tuple[int, int, int]]  # ascending, in POSIX seconds

    def next_after(self, second: int) -> int | None:
        index = max(0, bisect_right(self.stretches, second, key=lambda stretch: stretch[0]) - 1)
        for begins, ends, offset in self.stretches[index:]:
            edge = self._next_by_offset(max(begins, second), offset)
            if edge < ends:
                return edge
        return None

    def _next_by_offset(self, second: int, offset: int) -> int:
        local = second_of_week(second, offset)
        index = bisect_right(self.seconds, local)
        following = self.seconds[index] if index < len(self.seconds) else self.seconds[0] + _WEEK_S
        return second + following - local


class Edges:
    """All edges of one revision."""

    def __init__(self, times: Sequence[int] = (), zones: Sequence[ZoneEdges] = ()) -> None:
        self._times = times  # ascending, in POSIX seconds
        self._zones = zones
        self._last: tuple[int, float] = (0, 0)  # no edge lies between these two, and the second is one or inf

    def next_after(self, now: datetime) -> datetime | None:
        """The first edge after ``now``; an equal one has passed. None if there is none."""
        edge = self.next_second(now)
        return None if edge == math.inf else datetime.fromtimestamp(edge, UTC)

    def next_second(self, now: datetime) -> float:
        """As ``next_after``, in POSIX seconds, infinite if there is none."""
        second = math.floor(now.timestamp())
        if not self._last[0] <= second < self._last[1]:
            self._last = (second, self._find_next(second))
        return self._last[1]

    def _find_next(self, second: int) -> float:
        index = bisect_right(self._times, second)
        found = [self._times[index]] if index < len(self._times) else []
        found += [edge for zone in self._zones if (edge := zone.next_after(second)) is not None]
        return min(found, default=math.inf)


def read_edges(value: Any) -> Edges:
    """From the index's ``edges``, or the list of times that a custom policy may have instead.

    Raises ValueError.
    """
    if isinstance(value, list):
        times = [parse_time(text) for text in value]
        return Edges(sorted({int(time.timestamp()) for time in times if time is not None}))
    try:
        zones = [_read_zone(zone) for zone in value["zones"].values()]
        return Edges(_read_ascending(value["times"]), zones)
    except (AttributeError, KeyError, TypeError, ValueError) as exc:
        raise ValueError(f"the edges are malformed: {exc}") from exc


def _read_zone(zone: Any) -> ZoneEdges:
    stretches = []
    for begins, ends, offset in zone["stretches"]:
        _read_ascending((begins, ends))
        stretches.append((int(begins), int(ends), int(offset)))
    seconds = _read_ascending(zone["seconds"])
    if not seconds or not 0 <= seconds[0] <= seconds[-1] < _WEEK_S:
        raise ValueError("a second is not of a week")
    return ZoneEdges(seconds, sorted(stretches))


def _read_ascending(numbers: Any) -> list[int]:
    ascending = sorted(map(int, numbers))
    if ascending and not _FIRST_S <= ascending[0] <= ascending[-1] <= _LAST_S:
        raise ValueError("a time is not of the years 1 to 9999")
    return ascending
