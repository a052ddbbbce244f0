"""The report of `make bench`. Tests measure no ratio."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import pytest
from bench import h2load, report
from bench.__main__ import RATIOS, main


def ratio(name: str, better: Literal["at most", "at least"], reach: float) -> report.Ratio:
    async def measure() -> float:
        raise AssertionError("not measured here")

    return report.Ratio(name, name, better, reach, 3, measure)


@pytest.mark.parametrize(
    ("better", "rounds", "reached"),
    [
        ("at most", [1.0, 9.0, 0.5], True),
        ("at most", [1.001, 9.0, 0.5], False),
        ("at least", [1.0, 0.1, 9.0], True),
        ("at least", [0.999, 0.1, 9.0], False),
    ],
)
def test_ratio_is_reached_by_its_median(
    better: Literal["at most", "at least"], rounds: list[float], reached: bool
) -> None:
    """One bad round does not decide, and the median is not rounded first."""
    assert report.Result(ratio("a", better, 1.0), rounds).reached is reached


def test_measuring_one_ratio_keeps_the_others_in_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """build/bench.json has the newest measurement of each ratio, in the documented shape."""
    monkeypatch.chdir(tmp_path)
    report.write(
        [report.Result(ratio("a", "at most", 1), [2.0]), report.Result(ratio("b", "at most", 1), [1])]
    )
    report.write([report.Result(ratio("a", "at most", 1), [1.0])])
    written = json.loads(report.OUTPUT.read_text())["ratios"]
    assert {each["name"]: each["value"] for each in written} == {"a": 1.0, "b": 1}
    assert all(set(each) == {"name", "value", "reach", "reached", "rounds"} for each in written)


async def test_missing_h2load_is_reported_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(report.MissingProgram, match="nghttp2-client"):
        await h2load.load("127.0.0.1:1", "/", b"", [()], 1)


async def test_unknown_ratio_lists_the_names(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2."""
    assert await main("nothing") == 2
    printed = capsys.readouterr().out
    assert all(each.name in printed for each in RATIOS)
