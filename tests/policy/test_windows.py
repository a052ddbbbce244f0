"""Windows in Wasm and in an OPA server are those of the wall clock, which zoneinfo reads."""

from __future__ import annotations

import json
import random
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from eksgateway.policy.compiler.windows import compile_windows
from eksgateway.policy.engine import PolicyTooLarge
from eksgateway.policy.results import read_result_set
from eksgateway.policy.wasm_module import PolicyInstance, PolicyModule
from eksgateway.policy.wasm_runtime import WasmRuntime
from support.opa import POLICIES, compile_rego, run_opa
from support.policy_reference_windows import lie_inside, may_lie_inside
from support.wall_clock import find_changes, utc

WINDOWS_REGO = POLICIES / "eksgateway" / "windows.rego"
ZONES = [
    "Europe/Berlin",
    "Europe/Dublin",  # its winter time is the one that is saved
    "America/New_York",
    "America/St_Johns",  # half an hour off
    "America/Havana",  # changes at midnight
    "America/Nuuk",  # changes on Saturday evening
    "America/Santiago",
    "Australia/Lord_Howe",  # shifts by half an hour
    "Antarctica/Troll",  # shifts by two hours
    "Pacific/Chatham",
    "Africa/Casablanca",
    "Africa/Cairo",
    "Asia/Kathmandu",
    "Asia/Gaza",
    "UTC",
]
WORK = ["mon", "tue", "wed", "thu", "fri"]
# Lists of windows; each zone is given to all windows without one.
LISTS: dict[str, list[dict[str, Any]]] = {
    "over midnight": [{"days": WORK, "from": "22:00", "until": "06:00"}],
    "over the odd hour": [{"days": ["sat", "sun"], "from": "22:00", "until": "02:30"}],
    "within the odd hour": [{"from": "01:15", "until": "01:45"}, {"from": "02:15", "until": "02:45"}],
    "over the week's end": [{"days": ["sun"], "from": "20:00", "until": "04:00"}],
    "whole days": [{"days": ["sat", "sun"]}],
    "the whole week": [{}],
    "until 24:00": [{"days": ["sat"], "from": "12:00", "until": "24:00"}],
    "until 00:00": [{"days": ["sun"], "from": "12:00", "until": "00:00"}],
    "a day from noon": [{"days": ["sat"], "from": "12:00", "until": "12:00"}],
    "around the hour of a change": [{"days": ["sat", "sun", "mon"], "from": "00:30", "until": "03:00"}],
    "next to each other": [
        {"days": ["sat"], "from": "18:00", "until": "24:00"},
        {"days": ["sun"], "from": "00:00", "until": "03:00"},
    ],
    "in two zones": [
        {"days": WORK, "from": "09:00", "until": "17:00"},
        {"days": ["sun"], "from": "02:00", "until": "03:00", "zone": "Asia/Tokyo"},
    ],
}
PROBE = """
package eksgateway.authz

import data.eksgateway.windows

decision := [states |
	some moment in input.moments
	states := [state(name) | some name in input.names] with input.context as moment
]

default state(_) := "neither"

state(name) := "inside" if windows.inside(name)

state(name) := "outside" if windows.outside(name)
"""

Probe = Callable[[dict[str, Any], list[str], list[datetime]], list[list[str]]]
SHARE = {"wasm": 1, "opa": 4}  # of the times: an OPA is slower


@pytest.fixture(scope="module", params=SHARE)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def probe(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Probe]:
    """Returns the states of named windows at some times, by an engine with the given index."""
    folder = tmp_path_factory.mktemp("probe")
    yield from _serve_wasm(folder) if engine == "wasm" else _serve_opa(folder)


@pytest.mark.parametrize("zone", ZONES)
def test_windows_are_those_of_the_wall_clock(engine: str, probe: Probe, zone: str) -> None:
    """At clock changes, at the ends of years and at random."""
    lists = {key: [{"zone": zone, **window} for window in windows] for key, windows in LISTS.items()}
    compiled = compile_windows({"windows": windows} for windows in lists.values())
    index = {"windows": compiled.windows, "zones": compiled.zones}
    names = list(compiled.windows)
    names_of = {key: compiled.names_of(windows) for key, windows in lists.items()}
    moments = sorted(set(_choose_moments(zone)))
    moments = random.Random(zone).sample(moments, len(moments) // SHARE[engine])
    differences = []
    for begin in range(0, len(moments), 200):
        some = moments[begin : begin + 200]
        for moment, states in zip(some, probe(index, names, some), strict=True):
            by_name = dict(zip(names, states, strict=True))
            for key, windows in lists.items():
                found = [by_name[name] for name in names_of[key]]
                freeze, grant = may_lie_inside(windows, moment), lie_inside(windows, moment)
                if (set(found) != {"outside"}, "inside" in found) != (freeze, grant):
                    differences.append((key, moment.isoformat(), found, freeze, grant))
    assert not differences


def test_windows_of_other_years_are_neither_inside_nor_outside(probe: Probe) -> None:
    windows = [{"zone": "Europe/Berlin"}, {"zone": "UTC", "days": ["mon"]}]
    compiled = compile_windows([{"windows": windows}, {}])
    index = {"windows": compiled.windows, "zones": compiled.zones}
    beyond = [utc("2023-12-31T23:59:59"), utc("2041-01-01T00:00:00"), utc("2100-06-01T12:00:00")]
    within = [utc("2024-01-01T00:00:00"), utc("2040-12-31T23:59:59")]
    assert probe(index, ["w0", "w1"], beyond) == [["neither", "neither"]] * 3
    assert probe(index, ["w0", "w1"], within) == [["inside", "inside"], ["inside", "inside"]]


@pytest.mark.parametrize("zone", ZONES)
def test_hours_of_a_window_are_those_that_it_may_touch(zone: str) -> None:
    """Of UTC's week. A freeze is not looked at in other hours."""
    windows = LISTS["over the odd hour"] + LISTS["until 24:00"]
    entry = {"windows": [{"zone": zone, **window} for window in windows]}
    compiled = compile_windows([entry])
    assert set(compiled.windows) == {"w0"}
    hours = compiled.hours_of("w0")
    assert hours[-1] == "any"
    for moment in _choose_moments(zone):
        hour = int((moment.timestamp() + 259_200) // 3600) % 168
        assert str(hour) in hours or not may_lie_inside(entry["windows"], moment)
    assert len(hours) < 36


def test_order_of_entries_and_windows_does_not_matter() -> None:
    """The revision is a hash of the tables."""
    lists = [[{"zone": zone, **window} for window in windows] for zone in ZONES for windows in LISTS.values()]
    before = compile_windows({"windows": windows} for windows in lists)
    draw = random.Random(1)
    turned = [draw.sample(windows, len(windows)) for windows in draw.sample(lists, len(lists))]
    after = compile_windows({"windows": windows} for windows in turned)
    assert json.dumps([before.windows, before.zones]) == json.dumps([after.windows, after.zones])
    assert [before.names_of(windows) for windows in lists] == [after.names_of(windows) for windows in lists]


def test_windows_that_touch_in_one_zone_are_one() -> None:
    weekend = [
        {"days": ["fri"], "from": "18:00", "until": "24:00", "zone": "UTC"},
        {"days": ["sat", "sun"], "zone": "UTC"},
        {"days": ["mon"], "from": "00:00", "until": "06:00", "zone": "UTC"},
    ]
    compiled = compile_windows([{"windows": weekend}, {"windows": weekend[::-1]}])
    assert compiled.windows == {
        "w0": {"zone": "UTC", "inside": [[0, 21600], [410400, 604800]], "outside": [[21600, 410400]]}
    }


@pytest.mark.parametrize("count", [14, 15])
def test_windows_beyond_a_hundred_times_a_week_are_refused(count: int) -> None:
    """A decision reads all of them."""
    windows = [{"from": f"{hour:02}:00", "until": f"{hour:02}:30", "zone": "UTC"} for hour in range(count)]
    if count == 15:
        with pytest.raises(PolicyTooLarge, match=r"^busy: its windows in UTC begin 105 times a week"):
            compile_windows([{"id": "busy", "windows": windows}])
    else:
        assert len(compile_windows([{"id": "busy", "windows": windows}]).windows["w0"]["inside"]) == 98


def _choose_moments(zone: str) -> Iterator[datetime]:
    draw = random.Random(zone)
    changes = list(find_changes(zone, utc("2024-01-02T00:00:00"), utc("2040-12-30T00:00:00")))
    for change in [*changes[:4], *draw.sample(changes, min(4, len(changes))), *changes[-2:]]:
        quarters = [change + timedelta(minutes=15 * number) for number in range(-18, 19)]
        yield from (time + timedelta(seconds=second) for time in quarters for second in (-1, 0, 1))
    ends = [utc(f"{year}-01-01T00:00:00") for year in (2025, 2027, 2040)]
    ends += [datetime.fromtimestamp(1 << 31, UTC), utc("2028-02-29T23:30:00")]
    for end in ends:
        yield from (end + timedelta(seconds=second) for second in (-1, 0, 1))
    for _ in range(150):
        yield datetime.fromtimestamp(draw.randrange(1_704_067_200, 2_240_611_200), UTC)


def _serve_wasm(folder: Path) -> Iterator[Probe]:
    runtime = WasmRuntime()
    module = PolicyModule(runtime, compile_rego(PROBE, folder, WINDOWS_REGO))

    def ask(index: dict[str, Any], names: list[str], moments: list[datetime]) -> list[list[str]]:
        instance = PolicyInstance(module, _data(index), load_s=10)
        try:
            answer: list[list[str]] = read_result_set(
                instance.evaluate(_input(names, moments), deadline_s=60)
            )
        finally:
            instance.close()
        return answer

    yield ask
    runtime.close()


def _serve_opa(folder: Path) -> Iterator[Probe]:
    (folder / "probe.rego").write_text(PROBE)
    with run_opa(folder / "probe.rego", WINDOWS_REGO, log=folder / "opa.log") as server:

        def ask(index: dict[str, Any], names: list[str], moments: list[datetime]) -> list[list[str]]:
            server.put("eksgateway/index", index)
            body = json.dumps({"input": json.loads(_input(names, moments))}).encode()
            request = urllib.request.Request(f"{server.url}/v1/data/eksgateway/authz/decision", body)
            with urllib.request.urlopen(request, timeout=60) as response:
                answer: list[list[str]] = json.load(response)["result"]
            return answer

        yield ask


def _data(index: dict[str, Any]) -> bytes:
    return json.dumps({"eksgateway": {"index": index}}).encode()


def _input(names: list[str], moments: list[datetime]) -> bytes:
    contexts = [
        {"time": f"{moment:%Y-%m-%dT%H:%M:%SZ}", "seconds": int(moment.timestamp())} for moment in moments
    ]
    return json.dumps({"names": names, "moments": contexts}).encode()
