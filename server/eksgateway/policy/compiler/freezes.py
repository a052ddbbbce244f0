"""Freezes, found by their places and by the time or their windows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from eksgateway.policy.compiler.intervals import cut_interval
from eksgateway.policy.compiler.windows import CompiledWindows

_KEPT: Final = ("from", "until", "tags", "update_types", "except_groups", "except_subjects")


class FreezeTable:
    def __init__(self, windows: CompiledWindows) -> None:
        self._windows = windows
        self._freezes: dict[str, dict[str, Any]] = {}
        self._at: dict[str, dict[str, list[str]]] = {}
        self._windows_at: dict[str, dict[str, None]] = {}  # place -> names, each once

    def add(self, freeze: dict[str, Any], place: str) -> None:
        """The Rego takes a freeze as in force unless one of these keys shows that it is not."""
        entry = self._freezes[freeze["id"]] = {key: freeze[key] for key in _KEPT if key in freeze}
        names = self._windows.names_of(freeze["windows"]) if "windows" in freeze else []
        if names:
            entry["windows"] = names
        dated = "from" in freeze and "until" in freeze
        dates = cut_interval(freeze["from"], freeze["until"]) if dated else [""]
        at = self._at.setdefault(place, {})
        for date in dates:
            for name in names or [""]:
                at.setdefault(f"{date} {name}".strip(), []).append(freeze["id"])
        if names:
            self._windows_at.setdefault(place, {}).update(dict.fromkeys(names))

    def to_json(self) -> dict[str, Any]:
        used = {name for names in self._windows_at.values() for name in names}
        hours = {name: self._windows.hours_of(name) for name in used}
        return {
            "freezes": self._freezes,
            "freeze_at": self._at,
            "freeze_hours": {place: _list_by_hour(names, hours) for place, names in self._windows_at.items()},
        }


def _list_by_hour(names: Iterable[str], hours: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in names:
        for hour in hours[name]:
            found.setdefault(hour, []).append(name)
    return found
