"""Windows by zoneinfo and the wall clock, without the compiler: what tests compare it with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any
from zoneinfo import ZoneInfo

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
SHIFTS = [timedelta(minutes=minutes) for minutes in (30, 60, 120)]  # of clock changes since 2012


@cache
def load_zone(name: str) -> ZoneInfo:
    """From the package tzdata, as the machine's zones may be older."""
    with files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


def is_in_force(windows: Sequence[dict[str, Any]], moment: datetime, *, either: bool) -> bool:
    """Whether the windows of a freeze (``either`` offset) or of a grant hold at a time."""
    if either:
        return any(
            _contains(window, local) for window in windows for local in read_clocks(window["zone"], moment)
        )
    zones = {window["zone"] for window in windows}
    return any(
        all(
            any(_contains(window, local) for window in windows if window["zone"] == zone)
            for local in read_clocks(zone, moment)
        )
        for zone in zones
    )


@lru_cache(maxsize=1024)
def read_clocks(name: str, moment: datetime) -> set[datetime]:
    """The local time, and the one of the other side of a clock change that is at most its shift away."""
    zone = load_zone(name)
    own = moment.astimezone(zone).utcoffset() or timedelta()
    clocks = {moment.replace(tzinfo=None) + own}
    for shift in SHIFTS:
        for away in (shift, -shift):
            other = (moment + away).astimezone(zone).utcoffset() or timedelta()
            if abs(other - own) == shift:
                clocks.add(moment.replace(tzinfo=None) + other)
    return clocks


def find_changes(name: str, begin: datetime, end: datetime) -> Iterator[datetime]:
    """The instants at which the zone's offset changes, to the second."""
    zone, step = load_zone(name), timedelta(hours=6)
    moment = begin
    while moment < end:
        if _offset(zone, moment) != _offset(zone, moment + step):
            earlier, later = moment, moment + step
            while later - earlier > timedelta(seconds=1):
                middle = earlier + timedelta(seconds=(later - earlier).total_seconds() // 2)
                same = _offset(zone, middle) == _offset(zone, moment)
                earlier, later = (middle, later) if same else (earlier, middle)
            yield later
        moment += step


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def _offset(zone: ZoneInfo, moment: datetime) -> timedelta | None:
    return moment.astimezone(zone).utcoffset()


def _contains(window: dict[str, Any], local: datetime) -> bool:
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
    for day in (midnight, midnight - timedelta(days=1)):
        begin, end = _at(day, window.get("from", "00:00")), _at(day, window.get("until", "24:00"))
        if end <= begin:
            end += timedelta(days=1)
        if DAYS[day.weekday()] in window.get("days", DAYS) and begin <= local < end:
            return True
    return False


def _at(day: datetime, time: str) -> datetime:
    hours, minutes = time.split(":")
    return day + timedelta(hours=int(hours), minutes=int(minutes))
