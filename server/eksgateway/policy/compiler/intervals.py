"""Finds freezes by the time: each is cut into whole years, months and days."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Final

_DAY: Final = timedelta(days=1)


def cut_interval(begins: str, ends: str) -> list[str]:
    """The few years, months and days that cover [begins, ends), as prefixes of times (2027, 2027-03,
    2027-03-08). They may cover more: compare the times too.
    """
    last = date.fromisoformat(ends[:10])
    if ends[10:] == "T00:00:00Z":
        last -= _DAY
    return list(_cut_days(date.fromisoformat(begins[:10]), last))


def _cut_days(day: date, last: date) -> Iterator[str]:
    while day <= last:
        length, end = next(
            (length, end)
            for length, end in ((4, _end_of_year(day)), (7, _end_of_month(day)), (10, day))
            if end is not None and end <= last
        )
        yield day.isoformat()[:length]
        if end == date.max:
            return
        day = end + _DAY


def _end_of_year(day: date) -> date | None:
    """None unless a year begins on the day."""
    return date(day.year, 12, 31) if (day.month, day.day) == (1, 1) else None


def _end_of_month(day: date) -> date | None:
    """None unless a month begins on the day."""
    if day.day != 1:
        return None
    if day.month == 12:
        return date(day.year, 12, 31)
    return date(day.year, day.month + 1, 1) - _DAY
