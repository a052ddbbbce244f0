"""Freezes, found by their places and by the time or their windows."""

from __future__ import annotations

from typing import Any, Final

from eksgateway.policy.compiler.times import cut_interval
from eksgateway.policy.compiler.windows import CompiledWindows

_KEPT: Final = ("from", "until", "tags", "update_types", "except_groups", "except_subjects")


class FreezeTable:
    def __init__(self, windows: CompiledWindows) -> None:
        self._windows = windows
        self._freezes: dict[str, dict[str, Any]] = {}
        self._at: dict[str, dict[str, list[str]]] = {}
        self._windows_at: dict[str, list[str]] = {}

    def add(self, freeze: dict[str, Any], place: str) -> None:
        """The Rego takes a freeze as in force unless one of these keys shows that it is not."""
        entry = self._freezes[freeze["id"]] = {key: freeze[key] for key in _KEPT if key in freeze}
        names = self._windows.names_of(freeze["windows"]) if "windows" in freeze else []
        if names:
            entry["windows"] = names
        at = self._at.setdefault(place, {})
        if "from" in freeze and "until" in freeze:
            keys = cut_interval(freeze["from"], freeze["until"])
        else:
            keys = names
            known = self._windows_at.setdefault(place, [])
            known += [name for name in names if name not in known]
        for key in keys:
            at.setdefault(key, []).append(freeze["id"])

    def to_json(self) -> dict[str, Any]:
        return {"freezes": self._freezes, "freeze_at": self._at, "freeze_windows": self._windows_at}
