"""Time zones as zoneinfo reads them, without the policy's compiler."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.resources import files
from zoneinfo import ZoneInfo


@cache
def load_zone(name: str) -> ZoneInfo:
    """From the package tzdata, as the machine's zones may be older."""
    with files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


def read_offset(name: str, moment: datetime) -> timedelta:
    return moment.astimezone(load_zone(name)).utcoffset() or timedelta()


def find_changes(name: str, begin: datetime, end: datetime) -> Iterator[datetime]:
    """The instants at which the zone's offset changes, to the second."""
    step = timedelta(hours=6)
    while begin < end:
        offset = read_offset(name, begin)
        if offset != read_offset(name, begin + step):
            earlier, later = begin, begin + step
            while later - earlier > timedelta(seconds=1):
                middle = earlier + timedelta(seconds=(later - earlier).total_seconds() // 2)
                same = read_offset(name, middle) == offset
                earlier, later = (middle, later) if same else (earlier, middle)
            yield later
        begin += step


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
