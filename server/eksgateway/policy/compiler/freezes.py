"""Freezes, found by their places and by the time or their windows."""

from __future__ import annotations

from typing import Any, Final

from eksgateway.policy.compiler.intervals import cut_interval
from eksgateway.policy.compiler.windows import CompiledWindows

_KEPT: Final = ("from", "until", "tags", "update_types", "except_groups", "except_subjects")


class FreezeTable:
    def __init__(self, windows: CompiledWindows) -> None:
        self._windows = windows
        self._freezes: dict[str, dict[str, Any]] = {}
        self._at: dict[str, dict[str, list[str]]] = {}
        self._hours: dict[str, dict[str, list[str]]] = {}

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
        for name in names:
            self._add_window(name, place)

    def to_json(self) -> dict[str, Any]:
        return {
            "freezes": self._freezes,
            "freeze_at": self._at,
            "freeze_hours": self._hours,
        }

    def _add_window(self, name: str, place: str) -> None:
        hours = self._hours.setdefault(place, {})
        for hour in self._windows.hours_of(name):
            known = hours.setdefault(hour, [])
            if name not in known:
                known.append(name)
