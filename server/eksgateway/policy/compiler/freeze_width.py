"""The cost of freezes to a decision, of one day or hour of the week at the places of one cluster."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Final

from eksgateway.policy.compiler.overlaps import Heaviest, Targets, sum_weights
from eksgateway.policy.compiler.windows import ANY_HOUR

WINDOW_US: Final = 10.0  # that is evaluated
_FREEZE: Final = 7.0
_ITEM: Final = 0.5  # of a list of the freeze's


def weigh_freezes(index: Mapping[str, Any], targets: Targets) -> Heaviest:
    """Those of one day, with its month and year, and those that have windows alone, of one hour."""
    freezes = {name: _weigh_freeze(entry) for name, entry in index["freezes"].items()}
    dates: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    hours: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for place, times in index["freeze_at"].items():
        at_windows: dict[str, float] = {}
        for time, names in times.items():
            weight = sum(freezes[name] for name in names)
            date = time.partition(" ")[0]  # from a window's name, if there are both
            if date[0].isdigit():  # and no window's name
                dates[date][place] += weight
            else:
                at_windows[time] = weight
        for hour, windows in index["freeze_hours"].get(place, {}).items():
            hours[hour][place] = sum(WINDOW_US + at_windows.get(window, 0) for window in windows)
    hours.pop(ANY_HOUR, None)
    found = {date: targets.weigh_places(weights) for date, weights in dates.items()}
    none = Heaviest(0, "")
    windows = _weigh_hours(hours.values(), targets)
    days = [[found.get(day[:length], none) for length in _PREFIXES if length <= len(day)] for day in found]
    heaviest = max(([*parts, windows] for parts in days), key=sum_weights, default=[windows])
    return Heaviest(sum_weights(heaviest), max(heaviest).pattern)


def _weigh_hours(hours: Iterable[Mapping[str, float]], targets: Targets) -> Heaviest:
    heaviest = Heaviest(0, "")
    for weights in sorted(hours, key=lambda weights: -sum(weights.values())):
        if sum(weights.values()) <= heaviest.weight:  # so are all that follow
            break
        heaviest = max(heaviest, targets.weigh_places(weights))
    return heaviest


_PREFIXES: Final = (2, 4, 7, 10)  # of a time: its century, year, month and day


def _weigh_freeze(freeze: Mapping[str, Any]) -> float:
    items = sum(len(value) for key, value in freeze.items() if key not in ("from", "until", "windows"))
    return _FREEZE + items * _ITEM
