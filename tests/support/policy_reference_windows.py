"""Recurring windows in local time, evaluated naively with zoneinfo: see policy_reference."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from support.wall_clock import read_offset

Window = dict[str, Any]

FIRST_YEAR, LAST_YEAR = 2024, 2040  # beyond, windows of freezes hold and those of grants do not

SHIFTS = [timedelta(minutes=minutes) for minutes in (30, 60, 120)]  # of all clock changes of these years

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def lie_inside(windows: list[Window], time: datetime) -> bool:
    """Whether the time is within the windows of one zone under each offset that it may have."""
    return any(
        bool(locals_) and all(any(_contains(window, local) for window in own) for local in locals_)
        for own, locals_ in _by_zone(windows, time)
    )


def may_lie_inside(windows: list[Window], time: datetime) -> bool:
    """Whether the time is within a window under one of its offsets, or beyond the known years."""
    return any(
        not locals_ or any(_contains(window, local) for window in own for local in locals_)
        for own, locals_ in _by_zone(windows, time)
    )


def _by_zone(windows: list[Window], time: datetime) -> Iterator[tuple[list[Window], set[datetime]]]:
    for zone in {window["zone"] for window in windows}:
        yield [window for window in windows if window["zone"] == zone], _local_times(zone, time)


@lru_cache(maxsize=1024)
def _local_times(zone: str, time: datetime) -> set[datetime]:
    """The times of the wall clock: two as long before and after a clock change as it shifts the clock."""
    if not FIRST_YEAR <= time.year <= LAST_YEAR:
        return set()
    offset = read_offset(zone, time)
    offsets = {offset}
    for shift in SHIFTS:
        others = {read_offset(zone, time + shift), read_offset(zone, time - shift)}
        offsets |= {other for other in others if abs(other - offset) == shift}
    return {time.replace(tzinfo=None) + each for each in offsets}


def _contains(window: Window, local: datetime) -> bool:
    begins, ends = _minutes(window.get("from", "00:00")), _minutes(window.get("until", "24:00"))
    if ends <= begins:
        ends += timedelta(days=1)
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
    return any(
        day + begins <= local < day + ends
        for day in (midnight, midnight - timedelta(days=1))
        if DAYS[day.weekday()] in window.get("days", DAYS)
    )


def _minutes(text: str) -> timedelta:
    hour, minute = text.split(":")
    return timedelta(hours=int(hour), minutes=int(minute))
