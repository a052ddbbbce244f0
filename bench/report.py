"""What a ratio is, how its rounds become one value, and how values are shown."""

from __future__ import annotations

import json
import statistics
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table

OUTPUT = Path("build/bench.json")


class Missing(Exception):
    """A program that a ratio is measured with is not on this machine; the text says how to get it."""


@dataclass(frozen=True)
class Ratio:
    """``measure`` gives one round's ratio, gateway and baseline measured one after the other."""

    name: str
    about: str
    better: Literal["at most", "at least"]
    reach: float
    rounds: int
    measure: Callable[[], Awaitable[float]]


@dataclass(frozen=True)
class Result:
    """The rounds of one ratio; its value is their median."""

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
    """One row a ratio: median, spread, what is to be reached, and whether it is."""
    shown = Table("ratio", "median", "spread", "reach", "reached")
    for result in results:
        spread = f"{min(result.rounds):.2f}–{max(result.rounds):.2f}"
        reach = f"{'≤' if result.ratio.better == 'at most' else '≥'} {result.ratio.reach:g}"
        told = "yes" if result.reached else "NO"
        shown.add_row(result.ratio.about, f"{result.value:.2f}", spread, reach, told)
    return shown


def write(results: list[Result]) -> None:
    """Write the ratios into build/bench.json, in the place of older ones, and print the table."""
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
