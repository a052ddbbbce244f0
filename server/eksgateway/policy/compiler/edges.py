"""Compiles the times at which decisions change by themselves: the index's ``edges``. Pure."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Final

from eksgateway.policy.compiler.windows import WEEK_S, Week, merge_windows
from eksgateway.policy.compiler.zones import RANGE_BEGINS, RANGE_ENDS, Part, zone_parts
from eksgateway.policy.edges import parse_time, second_of_week
from eksgateway.policy.engine import PolicyTooLarge

MAX_EDGES_BYTES: Final = 240 << 10  # as JSON: an OPA's answer may have a little more


def compile_edges(content: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """``times``: POSIX seconds at which an entry begins or ends, and edges of windows close to clock changes.

    ``zones``: the seconds of the local week at which windows of a zone begin or end, and the stretches
    ``[from, until, offset]`` in which they do so by one offset. Raises PolicyTooLarge.
    """
    times: set[int] = set()
    seconds: dict[str, set[int]] = {}
    for entry in chain.from_iterable(content.values()):
        times |= {_posix(entry[key]) for key in ("from", "until") if key in entry}
    for week, either in _find_weeks(content):
        seconds.setdefault(week.zone, set()).update(_boundaries(week))
        times.update(_find_odd_edges(week, either=either))
    zones = {
        zone: {"seconds": sorted(seconds[zone]), "stretches": _stretches(zone)}
        for zone in sorted(seconds)
        if seconds[zone]
    }
    edges = {"times": sorted(times), "zones": zones}
    _check_size(edges)
    return edges


def is_in_force(week: Week, second: int, *, either: bool) -> bool:
    """Whether windows hold at a POSIX second: under either offset (a freeze's), or under both (a grant's)."""
    part = _part_at(zone_parts(week.zone), second)
    if part is None:
        return either
    answers = [_is_inside(week, second_of_week(second, offset)) for offset in (part.low, part.high)]
    return any(answers) if either else all(answers)


def _check_size(edges: dict[str, Any]) -> None:
    size = len(json.dumps(edges, separators=(",", ":")))
    if size > MAX_EDGES_BYTES:
        raise PolicyTooLarge(
            f"the times at which entries and their windows begin or end take {size >> 10} KB, and at most"
            f" {MAX_EDGES_BYTES >> 10} KB are possible (about 20,000 different times): there are"
            f" {len(edges['times'])} different times, and windows in {len(edges['zones'])} time zones."
            " Remove entries that have ended, give more of them the same from and until, or use fewer zones"
        )


def _posix(text: str) -> int:
    time = parse_time(text)
    if time is None:
        raise ValueError(f"{text!r} is no time: the content was not checked")
    return int(time.timestamp())


def _find_weeks(content: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[tuple[Week, bool]]:
    """Each distinct week once, for freezes (in force under either offset) and for grants."""
    for kind, either in (("grants", False), ("freezes", True)):
        weeks = {week for entry in content[kind] for week in merge_windows(entry.get("windows", ()))}
        yield from ((week, either) for week in weeks)


def _boundaries(week: Week) -> set[int]:
    """Where the week's windows begin or end. The end of the week is its begin."""
    ends = [second % WEEK_S for span in week.spans for second in span]
    return {second for second in ends if ends.count(second) == 1}


def _find_odd_edges(week: Week, *, either: bool) -> Iterator[int]:
    """Edges by two offsets, or by none: close to a clock change, and at the ends of the compiled years."""
    boundaries = _boundaries(week)
    candidates = {RANGE_BEGINS, RANGE_ENDS}
    for part in zone_parts(week.zone):
        if part.low != part.high:
            candidates |= {part.begins, part.ends}
            for offset in (part.low, part.high):
                at = second_of_week(part.begins, offset)
                moments = {part.begins + (second - at) % WEEK_S for second in boundaries}
                candidates |= {moment for moment in moments if moment < part.ends}
    for second in candidates:
        before, now = (is_in_force(week, moment, either=either) for moment in (second - 1, second))
        if before != now:
            yield second


def _stretches(zone: str) -> list[list[int]]:
    return [[part.begins, part.ends, part.low] for part in zone_parts(zone) if part.low == part.high]


def _part_at(parts: Sequence[Part], second: int) -> Part | None:
    index = bisect_right(parts, second, key=lambda part: part.begins) - 1
    return parts[index] if index >= 0 and second < parts[index].ends else None


def _is_inside(week: Week, second: int) -> bool:
    index = bisect_right(week.spans, second, key=lambda span: span[0]) - 1
    return index >= 0 and second < week.spans[index][1]
