"""Recurring windows in local time, evaluated naively with zoneinfo: see policy_reference."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import cache
from importlib.resources import files
from typing import Any
from zoneinfo import ZoneInfo

Window = dict[str, Any]

FIRST_YEAR, LAST_YEAR = 2024, 2040  # beyond, windows of freezes hold and those of grants do not

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def lie_inside(windows: list[Window], time: datetime) -> bool:
    """Whether the time is within the windows of one zone under each offset that it may have."""
    return any(
        locals_ and all(any(_contains(window, local) for window in own) for local in locals_)
        for own, locals_ in _by_zone(windows, time)
    )


def may_lie_inside(windows: list[Window], time: datetime) -> bool:
    """Whether the time is within a window under one of its offsets, or beyond the known years."""
    return any(
        not locals_ or any(_contains(window, local) for window in own for local in locals_)
        for own, locals_ in _by_zone(windows, time)
    )


def _by_zone(windows: list[Window], time: datetime) -> Iterator[tuple[list[Window], list[datetime]]]:
    for zone in {window["zone"] for window in windows}:
        yield [window for window in windows if window["zone"] == zone], list(_local_times(zone, time))


def _local_times(zone: str, time: datetime) -> Iterator[datetime]:
    """The times of the wall clock: two as long before and after a clock change as it shifts the clock."""
    if FIRST_YEAR <= time.year <= LAST_YEAR:
        offset = _offset(zone, time)
        yield time.replace(tzinfo=None) + offset
        for minutes in range(-180, 181, 15):
            other = _offset(zone, time + timedelta(minutes=minutes))
            if abs(other - offset) == timedelta(minutes=abs(minutes)):
                yield time.replace(tzinfo=None) + other


def _offset(zone: str, time: datetime) -> timedelta:
    return _zone(zone).utcoffset(time.astimezone(_zone(zone))) or timedelta()


@cache
def _zone(name: str) -> ZoneInfo:
    """From the package tzdata, as the compiler's: a machine's zones may be older."""
    with files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


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
