"""The UTC offsets of IANA zones, for the years that are compiled into an index.

The rules come from the package tzdata, not from the machine, so that equal data has an equal revision.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import cache, lru_cache
from importlib.resources import files
from itertools import pairwise
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

FIRST_YEAR: Final = 2024
LAST_YEAR: Final = 2040

_STEP_S: Final = 7 * 24 * 3600  # no zone changes twice within a week


class Part(NamedTuple):
    """A time [begins, ends) in POSIX seconds, with the lowest and the highest offset of it in seconds.

    They differ in the hour (the size of the shift) on each side of a clock change, and are equal elsewhere.
    """

    begins: int
    ends: int
    low: int
    high: int


class _Change(NamedTuple):
    at: int
    before: int
    after: int

    @property
    def shift(self) -> int:
        return abs(self.after - self.before)


@cache
def zone_names() -> frozenset[str]:
    """The names that a window's zone may have."""
    return frozenset(files("tzdata").joinpath("zones").read_text().split()) - {"Factory"}


def year_begin(year: int) -> int:
    """In POSIX seconds."""
    return int(datetime(year, 1, 1, tzinfo=UTC).timestamp())


RANGE_BEGINS: Final = year_begin(FIRST_YEAR)
RANGE_ENDS: Final = year_begin(LAST_YEAR + 1)


@lru_cache(maxsize=1024)
def zone_parts(name: str) -> tuple[Part, ...]:
    """The parts of all compiled years, in order and without gaps."""
    zone = _load_zone(name)
    changes = tuple(_find_changes(zone))
    cuts = {RANGE_BEGINS, RANGE_ENDS}
    for change in changes:
        cuts |= {change.at - change.shift, change.at, change.at + change.shift}
    parts: list[Part] = []
    for begins, ends in pairwise(sorted(cut for cut in cuts if RANGE_BEGINS <= cut <= RANGE_ENDS)):
        offsets = {_offset(zone, begins)}
        for change in changes:
            if change.at - change.shift <= begins < change.at + change.shift:
                offsets |= {change.before, change.after}
        part = Part(begins, ends, min(offsets), max(offsets))
        if parts and parts[-1][2:] == part[2:]:
            part = part._replace(begins=parts.pop().begins)
        parts.append(part)
    return tuple(parts)


def zone_offsets(name: str) -> set[int]:
    """All that the zone has in the compiled years, in seconds."""
    return {offset for part in zone_parts(name) for offset in (part.low, part.high)}


def compile_zone(name: str) -> dict[str, list[dict[str, int]]]:
    """The parts by year, cut at the ends of the years, which are those of UTC."""
    years: dict[str, list[dict[str, int]]] = {}
    for year in range(FIRST_YEAR, LAST_YEAR + 1):
        begins, ends = year_begin(year), year_begin(year + 1)
        years[str(year)] = [
            {
                "from": max(part.begins, begins),
                "until": min(part.ends, ends),
                "low": part.low,
                "high": part.high,
            }
            for part in zone_parts(name)
            if part.begins < ends and begins < part.ends
        ]
    return years


def compile_zones(names: Iterable[str]) -> dict[str, dict[str, list[dict[str, int]]]]:
    return {name: compile_zone(name) for name in sorted(set(names))}


def _load_zone(name: str) -> ZoneInfo:
    if name not in zone_names():
        raise ValueError(f"{name!r} is no IANA zone")
    with files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


def _offset(zone: ZoneInfo, second: int) -> int:
    offset = datetime.fromtimestamp(second, zone).utcoffset()
    return int(offset.total_seconds()) if offset is not None else 0


def _find_changes(zone: ZoneInfo) -> Iterator[_Change]:
    """Those that have a part in the compiled years."""
    second, before = RANGE_BEGINS - _STEP_S, _offset(zone, RANGE_BEGINS - _STEP_S)
    while second < RANGE_ENDS + _STEP_S:
        after = _offset(zone, second + _STEP_S)
        if after != before:
            yield _Change(_find_change(zone, second, second + _STEP_S), before, after)
        second, before = second + _STEP_S, after


def _find_change(zone: ZoneInfo, earlier: int, later: int) -> int:
    """The first second with the offset of ``later``."""
    wanted = _offset(zone, later)
    while later - earlier > 1:
        middle = (earlier + later) // 2
        if _offset(zone, middle) == wanted:
            later = middle
        else:
            earlier = middle
    return later
