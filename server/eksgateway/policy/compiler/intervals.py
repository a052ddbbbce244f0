"""Cuts intervals into whole centuries, years, months and days, by which freezes are found."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Final

_DAY: Final = timedelta(days=1)


def cut_interval(begins: str, ends: str) -> list[str]:
    """The few centuries, years, months and days that cover [begins, ends), as prefixes of times (21, 2027,
    2027-03, 2027-03-08). They may cover more: compare the times too.
    """
    last = date.fromisoformat(ends[:10])
    if ends[10:] == "T00:00:00Z":
        last -= _DAY
    return list(_cut_days(date.fromisoformat(begins[:10]), last))


def _cut_days(day: date, last: date) -> Iterator[str]:
    while day <= last:
        ends = ((2, _end_of_years(day, 100)), (4, _end_of_years(day, 1)), (7, _end_of_month(day)), (10, day))
        length, end = next((length, end) for length, end in ends if end is not None and end <= last)
        yield day.isoformat()[:length]
        if end == date.max:
            return
        day = end + _DAY


def _end_of_years(day: date, years: int) -> date | None:
    """None unless a multiple of so many years begins on the day."""
    begins = (day.month, day.day) == (1, 1) and day.year % years == 0
    return date(day.year + years - 1, 12, 31) if begins else None


def _end_of_month(day: date) -> date | None:
    """None unless a month begins on the day."""
    if day.day != 1:
        return None
    if day.month == 12:
        return date(day.year, 12, 31)
    return date(day.year, day.month + 1, 1) - _DAY
