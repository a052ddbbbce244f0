"""Compiles recurring windows to spans of the local week, as the Rego reads them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias

from eksgateway.policy.compiler.zones import compile_zones, zone_offsets
from eksgateway.policy.engine import PolicyTooLarge

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
HOUR_S: Final = 3600
DAY_S: Final = 24 * HOUR_S
WEEK_S: Final = 7 * DAY_S
WEEK_HOURS: Final = 7 * 24
ANY_HOUR: Final = "any"
MAX_SPANS: Final = 100  # of one entry in one zone: a decision reads all of them

Window: TypeAlias = Mapping[str, Any]  # as written: zone, and optionally days, from, until
Spans: TypeAlias = tuple[tuple[int, int], ...]  # [begin, end) in seconds of the local week, in order, apart


class Week(NamedTuple):
    """All windows of one list that are in the same zone."""

    zone: str
    spans: Spans


@dataclass(frozen=True)
class CompiledWindows:
    """The index's ``windows`` and ``zones``."""

    windows: dict[str, dict[str, Any]]
    zones: dict[str, dict[str, list[dict[str, int]]]]
    _names: dict[Week, str]

    def hours_of(self, name: str) -> list[str]:
        """The hours of UTC's week that the windows may touch in some year, and ``any`` for other years."""
        window, hours = self.windows[name], set()
        for offset in zone_offsets(window["zone"]):
            for begin, end in window["inside"]:
                hours |= set(range((begin - offset) // HOUR_S, -((offset - end) // HOUR_S)))
        return [*map(str, sorted({hour % WEEK_HOURS for hour in hours})), ANY_HOUR]

    def names_of(self, windows: Sequence[Window]) -> list[str]:
        """The names of one entry's windows. The entry is within its windows if it is within one of these."""
        return [self._names[week] for week in merge_windows(windows)]


def compile_windows(entries: Iterable[Mapping[str, Any]]) -> CompiledWindows:
    """Compile the ``windows`` of entries that have any. The order of entries and windows does not matter.

    Raises PolicyTooLarge.
    """
    weeks = sorted({week for entry in entries for week in _weeks_of(entry)})
    names = {week: f"w{number}" for number, week in enumerate(weeks)}
    return CompiledWindows(
        {name: _to_window(week) for week, name in names.items()},
        compile_zones(week.zone for week in weeks),
        names,
    )


def merge_windows(windows: Sequence[Window]) -> list[Week]:
    """One week for each zone, in the order of the zones' names."""
    spans: dict[str, list[tuple[int, int]]] = {}
    for window in windows:
        spans.setdefault(window["zone"], []).extend(_spans_of(window))
    return [Week(zone, _merge(spans[zone])) for zone in sorted(spans)]


def _weeks_of(entry: Mapping[str, Any]) -> list[Week]:
    weeks = merge_windows(entry.get("windows", ()))
    for week in weeks:
        if len(week.spans) > MAX_SPANS:
            raise PolicyTooLarge(
                f"{entry['id']}: its windows in {week.zone} begin {len(week.spans)} times a week, and at most"
                f" {MAX_SPANS} times are possible: merge some, or move some to another entry"
            )
    return weeks


def _to_window(week: Week) -> dict[str, Any]:
    """Both sides are listed, so that a lost span is neither inside nor outside."""
    ends = [0, *(second for span in week.spans for second in span), WEEK_S]
    outside = [[ends[i], ends[i + 1]] for i in range(0, len(ends), 2) if ends[i] < ends[i + 1]]
    return {"zone": week.zone, "inside": [list(span) for span in week.spans], "outside": outside}


def _spans_of(window: Window) -> list[tuple[int, int]]:
    begin, end = _seconds(window.get("from", "00:00")), _seconds(window.get("until", "24:00"))
    if end <= begin:  # it runs into the next day
        end += DAY_S
    spans = []
    for day in window.get("days", DAYS):
        at = DAYS.index(day) * DAY_S
        spans.append((at + begin, min(at + end, WEEK_S)))
        if at + end > WEEK_S:
            spans.append((0, at + end - WEEK_S))
    return spans


def _seconds(time: str) -> int:
    hours, minutes = time.split(":")
    return int(hours) * 3600 + int(minutes) * 60


def _merge(spans: list[tuple[int, int]]) -> Spans:
    merged: list[tuple[int, int]] = []
    for begin, end in sorted(spans):
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((begin, end))
    return tuple(merged)
