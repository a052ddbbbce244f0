"""Ratios, their results, and the report of them."""

from __future__ import annotations

import json
import statistics
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from rich.console import Console
from rich.table import Table

OUTPUT: Final = Path("build/bench.json")


class MissingProgram(Exception):
    """A program that a measurement needs is not installed; the text has its package."""


@dataclass(frozen=True)
class Ratio:
    """A ratio and its target. ``measure`` runs gateway and baseline one after the other, for one round."""

    name: str
    about: str
    better: Literal["at most", "at least"]
    reach: float
    rounds: int
    measure: Callable[[], Awaitable[float]]


@dataclass(frozen=True)
class Result:
    """The rounds of one ratio, and their median."""

    ratio: Ratio
    rounds: list[float]

    @property
    def value(self) -> float:
        return statistics.median(self.rounds)

    @property
    def reached(self) -> bool:
        reach = self.ratio.reach
        return self.value <= reach if self.ratio.better == "at most" else self.value >= reach


def table(results: list[Result]) -> Table:
    """One row per ratio: median, spread, target, and whether the median reaches it."""
    rows = Table("ratio", "median", "spread", "reach", "reached")
    for result in results:
        spread = f"{min(result.rounds):.2f}–{max(result.rounds):.2f}"
        reach = f"{'≤' if result.ratio.better == 'at most' else '≥'} {result.ratio.reach:g}"
        reached = "yes" if result.reached else "NO"
        rows.add_row(result.ratio.about, f"{result.value:.2f}", spread, reach, reached)
    return rows


def write(results: list[Result]) -> None:
    """Write the ratios to build/bench.json, replacing older ones, and print the table."""
    OUTPUT.parent.mkdir(exist_ok=True)
    ratios = [
        {
            "name": result.ratio.name,
            "value": result.value,
            "reach": result.ratio.reach,
            "reached": result.reached,
            "rounds": result.rounds,
        }
        for result in results
    ]
    measured = {ratio["name"] for ratio in ratios}
    before = json.loads(OUTPUT.read_text())["ratios"] if OUTPUT.exists() else []
    kept = [ratio for ratio in before if ratio["name"] not in measured]  # of `make bench ONLY=…`
    OUTPUT.write_text(json.dumps({"ratios": [*kept, *ratios]}, indent=2) + "\n")
    Console().print(table(results))
