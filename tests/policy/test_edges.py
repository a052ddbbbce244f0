"""Edges are exactly the times at which an entry begins or ends, and its windows by the wall clock."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from eksgateway.policy.compiled_policy import build_policy
from eksgateway.policy.compiler.edges import compile_edges
from eksgateway.policy.compiler.windows import DAYS
from eksgateway.policy.compiler.zones import zone_names
from eksgateway.policy.edges import Edges, read_edges
from eksgateway.policy.engine import PolicyLoadError, PolicyTooLarge
from eksgateway.policy.results import MAX_RESULT_BYTES
from support.policy_reference_windows import lie_inside, may_lie_inside
from support.wall_clock import find_changes, utc

QUARTER = timedelta(minutes=15)
ZONES = [
    "Europe/Berlin",
    "America/Nuuk",
    "America/St_Johns",
    "Australia/Lord_Howe",
    "Antarctica/Troll",
    "UTC",
]
NIGHT = {"days": ["sat"], "from": "22:00", "until": "02:30", "zone": "Europe/Berlin"}


def content_of(**entries: Any) -> dict[str, list[dict[str, Any]]]:
    return {kind: entries.get(kind, []) for kind in ("grants", "denials", "freezes")}


def read(**entries: Any) -> Edges:
    return read_edges(compile_edges(content_of(**entries)))


def walk(edges: Edges, begin: datetime, end: datetime) -> Iterator[datetime]:
    """The edges in (begin, end)."""
    while (begin := edges.next_after(begin) or end) < end:
        yield begin


def texts(times: Iterator[datetime]) -> list[str]:
    return [f"{each:%Y-%m-%dT%H:%M:%SZ}" for each in times]


def test_each_begin_and_end_of_an_entry_is_an_edge() -> None:
    edges = read(
        grants=[{"until": "2026-12-01T00:00:00Z"}, {}],
        denials=[{"from": "2026-11-30T00:00:00Z", "until": "2026-12-01T00:00:00Z"}],
        freezes=[{"from": "0001-01-01T00:00:00Z", "until": "9999-12-31T23:59:59Z"}],
    )
    assert texts(walk(edges, utc("0001-01-01T00:00:00"), utc("9999-12-31T23:59:59"))) == [
        "2026-11-30T00:00:00Z",
        "2026-12-01T00:00:00Z",
    ]
    assert edges.next_after(utc("2026-12-01T00:00:00")) == utc("9999-12-31T23:59:59")
    assert edges.next_after(utc("9999-12-31T23:59:59")) is None


def test_data_without_entries_has_no_edges() -> None:
    assert read().next_after(utc("2026-12-01T00:00:00")) is None


def test_an_edge_has_passed_at_its_time() -> None:
    edges = read(grants=[{"until": "2026-12-01T00:00:00Z"}])
    edge = utc("2026-12-01T00:00:00")
    assert edges.next_after(edge - timedelta(microseconds=1)) == edge
    assert edges.next_after(edge) is None
    assert edges.next_after(edge - timedelta(seconds=1)) == edge  # a clock that is set back


@pytest.mark.parametrize(("kind", "end"), [("freezes", "01:30:00"), ("grants", "00:30:00")])
def test_a_window_ends_once_when_the_clock_goes_back(kind: str, end: str) -> None:
    """A freeze at the later 02:30, a grant at the earlier one."""
    edges = read(**{kind: [{"windows": [NIGHT]}]})
    found = texts(walk(edges, utc("2026-10-24T00:00:00"), utc("2026-10-26T00:00:00")))
    assert found == ["2026-10-24T20:00:00Z", f"2026-10-25T{end}Z"]


@pytest.mark.parametrize(("kind", "end"), [("freezes", "01:30:00"), ("grants", "00:30:00")])
def test_a_window_ends_once_when_the_clock_goes_forward(kind: str, end: str) -> None:
    """There is no 02:30 on this night."""
    edges = read(**{kind: [{"windows": [NIGHT]}]})
    found = texts(walk(edges, utc("2027-03-27T00:00:00"), utc("2027-03-29T00:00:00")))
    assert found == ["2027-03-27T21:00:00Z", f"2027-03-28T{end}Z"]


def test_the_whole_week_has_edges_at_the_ends_of_the_compiled_years_only() -> None:
    """There, a freeze's windows hold, and a grant's do not."""
    always = [{"windows": [{"zone": "Europe/Berlin"}]}]
    begin, end = utc("2000-01-01T00:00:00"), utc("2100-01-01T00:00:00")
    assert texts(walk(read(freezes=always), begin, end)) == []
    assert texts(walk(read(grants=always), begin, end)) == ["2024-01-01T00:00:00Z", "2041-01-01T00:00:00Z"]


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("kind", ["freezes", "grants"])
def test_edges_of_windows_are_those_of_the_wall_clock(zone: str, kind: str) -> None:
    """Each quarter of an hour in the days around clock changes: no window and no shift has other times."""
    draw = random.Random(zone)
    lists = [draw_windows(draw, zone) for _ in range(6)]
    edges = read(**{kind: [{"windows": windows} for windows in lists]})
    holds = may_lie_inside if kind == "freezes" else lie_inside
    changes = list(find_changes(zone, utc("2026-01-02T00:00:00"), utc("2030-01-01T00:00:00")))
    for middle in [*changes[:4], utc("2028-01-01T00:00:00")]:
        begin, end = middle - timedelta(days=2), middle + timedelta(days=2)
        assert list(walk(edges, begin, end)) == list(find_edges(lists, begin, end, holds))


def draw_windows(draw: random.Random, zone: str) -> list[dict[str, Any]]:
    """Mostly at night and on days of clock changes."""
    windows = []
    for _ in range(draw.choice([1, 1, 2, 3])):
        hours = [draw.choice([0, 1, 2, 3, 22, 23, draw.randrange(24)]) for _ in range(2)]
        begin, end = (f"{hour:02}:{draw.choice(['00', '15', '30', '45'])}" for hour in hours)
        days = sorted({draw.choice(["sat", "sun", "mon", draw.choice(DAYS)]) for _ in range(2)})
        windows.append({"days": days, "from": begin, "until": end, "zone": zone})
    return windows


def find_edges(
    lists: Sequence[list[dict[str, Any]]], begin: datetime, end: datetime, holds: Callable[..., bool]
) -> Iterator[datetime]:
    """By comparing each quarter of an hour in (begin, end) with the one before."""
    before = [holds(windows, begin) for windows in lists]
    while (begin := begin + QUARTER) < end:
        now = [holds(windows, begin) for windows in lists]
        if now != before:
            yield begin
        before = now


def test_edges_of_two_zones_come_in_order() -> None:
    zones = [
        {"days": ["mon"], "from": "09:00", "until": "10:00", "zone": zone} for zone in ("UTC", "Asia/Tokyo")
    ]
    edges = read(grants=[{"windows": zones}], denials=[{"until": "2026-11-30T09:30:00Z"}])
    begin, end = utc("2026-11-29T12:00:00"), utc("2026-12-02T00:00:00")
    found = ["00:00:00", "01:00:00", "09:00:00", "09:30:00", "10:00:00"]
    assert texts(walk(edges, begin, end)) == [f"2026-11-30T{each}Z" for each in found]


def test_order_of_entries_does_not_matter() -> None:
    """The revision is a hash of the edges too."""
    draw = random.Random(1)
    entries = [{"windows": draw_windows(draw, zone)} for zone in ZONES]
    entries[0]["until"] = "2026-12-01T00:00:00Z"  # type: ignore[assignment]
    expected = compile_edges(content_of(grants=entries))
    draw.shuffle(entries)
    for entry in entries:
        draw.shuffle(entry["windows"])
    assert compile_edges(content_of(grants=entries)) == expected


def test_the_next_edge_of_many_entries_is_found_in_under_a_millisecond() -> None:
    """It runs on the event loop."""
    draw = random.Random(1)
    moment = utc("2026-01-01T00:00:00")
    freezes: list[dict[str, Any]] = []
    for number in range(1000):
        begins = moment + timedelta(minutes=1000 * number)
        freezes.append({"from": f"{begins:%Y-%m-%dT%H:%M:%SZ}", "until": "2029-01-01T00:00:00Z"})
    for zone in sorted(zone_names())[::15]:  # 40
        freezes += [{"windows": draw_windows(draw, zone)} for _ in range(10)]
    edges = read(freezes=freezes)
    took = []
    for _ in range(500):
        moment = datetime.fromtimestamp(draw.randrange(1_800_000_000, 1_900_000_000), UTC)
        began = time.thread_time()
        edges.next_after(moment)
        took.append(time.thread_time() - began)
    assert sorted(took)[len(took) // 2] < 0.001


def test_windows_need_the_rules_of_zones_for_half_a_year() -> None:
    freeze, late = {"id": "f", "clusters": ["*"]}, utc("2040-07-06T00:00:00")
    recurring = build_policy(content_of(freezes=[{**freeze, "windows": [NIGHT]}]))
    recurring.check_rules(utc("2040-07-01T00:00:00"))
    with pytest.raises(PolicyLoadError, match=r"end at 2041-01-01T00:00:00Z: install a newer version"):
        recurring.check_rules(late)
    dates = {"from": "2026-01-01T00:00:00Z", "until": "2050-01-01T00:00:00Z"}
    build_policy(content_of(freezes=[{**freeze, **dates}])).check_rules(late)


@pytest.mark.parametrize("count", [20_000, 25_000])
def test_edges_beyond_an_answer_of_opa_are_refused(count: int) -> None:
    begin = utc("2026-12-01T00:00:00")
    times = [begin + timedelta(seconds=61 * number) for number in range(count)]
    content = content_of(denials=[{"until": f"{each:%Y-%m-%dT%H:%M:%SZ}"} for each in times])
    if count > 20_000:
        with pytest.raises(PolicyTooLarge, match="25000 different times, and windows in 0 time zones"):
            compile_edges(content)
    else:
        assert len(json.dumps({"result": compile_edges(content)})) < MAX_RESULT_BYTES


MALFORMED: dict[str, Any] = {
    "none": None,
    "a text": "2026-12-01T00:00:00Z",
    "no zones": {"times": []},
    "no times": {"zones": {}},
    "zones in a list": {"times": [], "zones": []},
    "a time that is a text": {"times": ["soon"], "zones": {}},
    "a time beyond the calendar": {"times": [1 << 60], "zones": {}},
    "no seconds": {"times": [], "zones": {"UTC": {"seconds": [], "stretches": []}}},
    "a second beyond the week": {"times": [], "zones": {"UTC": {"seconds": [604800], "stretches": []}}},
    "a stretch without an offset": {"times": [], "zones": {"UTC": {"seconds": [0], "stretches": [[0, 1]]}}},
    "a stretch beyond the calendar": {
        "times": [],
        "zones": {"UTC": {"seconds": [0], "stretches": [[0, 1 << 60, 0]]}},
    },
}


@pytest.mark.parametrize("value", MALFORMED.values(), ids=MALFORMED)
def test_malformed_edges_are_refused(value: Any) -> None:
    """Another policy may publish anything."""
    with pytest.raises(ValueError, match="the edges are malformed"):
        read_edges(value)
