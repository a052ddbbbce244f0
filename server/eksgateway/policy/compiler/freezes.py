"""Freezes, found by their places and times."""

from __future__ import annotations

from typing import Any

from eksgateway.policy.compiler.times import cut_interval


class FreezeTable:
    def __init__(self) -> None:
        self._freezes: dict[str, dict[str, Any]] = {}
        self._at: dict[str, dict[str, list[str]]] = {}

    def add(self, freeze: dict[str, Any], place: str) -> None:
        self._freezes[freeze["id"]] = {
            "from": freeze["from"],
            "until": freeze["until"],
            "except_groups": freeze.get("except_groups", []),
        }
        for time in cut_interval(freeze["from"], freeze["until"]):
            self._at.setdefault(place, {}).setdefault(time, []).append(freeze["id"])

    def to_json(self) -> dict[str, Any]:
        return {"freezes": self._freezes, "freeze_at": self._at}
