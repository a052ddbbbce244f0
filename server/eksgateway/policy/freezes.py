"""The times at which freezes begin and end."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final, TypeAlias

_UTC_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")

FreezeTimes: TypeAlias = tuple[datetime, ...]  # ascending


def is_utc_time(text: str) -> bool:
    """Whether the text has the form ``YYYY-MM-DDThh:mm:ssZ``. The time need not exist."""
    return _UTC_TIME.fullmatch(text) is not None


def parse_time(text: Any) -> datetime | None:
    """None if the text is not a time: the policy then denies every cancel."""
    if not isinstance(text, str) or not is_utc_time(text):
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def sort_times(texts: Iterable[Any]) -> FreezeTimes:
    return tuple(sorted({time for time in map(parse_time, texts) if time is not None}))


def next_time(times: FreezeTimes, now: datetime) -> datetime | None:
    """The first time after ``now``; an equal one has passed."""
    index = bisect_right(times, now)
    return times[index] if index < len(times) else None
