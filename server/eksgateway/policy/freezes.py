"""When freezes begin and end: the times at which decisions change while the policy stays the same."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

_FORM: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")

Edges = tuple[datetime, ...]  # in order


def is_written_right(text: str) -> bool:
    """Whether it has the one form of times in freezes, ``YYYY-MM-DDThh:mm:ssZ``."""
    return _FORM.fullmatch(text) is not None


def moment(text: Any) -> datetime | None:
    """The time that a freeze names; None for what is no time, which holds cancels back at all times."""
    if not isinstance(text, str) or not is_written_right(text):
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def in_order(texts: Iterable[Any]) -> Edges:
    """The times among these."""
    return tuple(sorted({time for time in map(moment, texts) if time is not None}))


def next_of(edges: Edges, now: datetime) -> datetime | None:
    """The first one after ``now``; the instant itself is past its edge."""
    following = bisect_right(edges, now)
    return edges[following] if following < len(edges) else None
