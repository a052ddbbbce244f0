"""The conditions of grants, each distinct set of them once."""

from __future__ import annotations

import json
from typing import Any


class Conditions:
    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._sets: dict[str, dict[str, Any]] = {}
        self._grants: dict[str, str] = {}

    def add(self, grant: dict[str, Any]) -> None:
        conditions = _conditions_of(grant)
        key = json.dumps(conditions, sort_keys=True)
        if key not in self._names:
            self._names[key] = f"c{len(self._names)}"
            self._sets[self._names[key]] = conditions
        self._grants[grant["id"]] = self._names[key]

    def to_json(self) -> dict[str, Any]:
        return {"conditions": self._sets, "grants": self._grants}


def _conditions_of(grant: dict[str, Any]) -> dict[str, Any]:
    """All conditions are there, because the Rego allows nothing by conditions of which one is missing."""
    return {
        "actions": grant["actions"],
        "via": grant.get("via"),
        "tags": grant.get("tags", {}),
        "update_types": grant.get("update_types", []),
        "require": grant.get("require", []),
    }
