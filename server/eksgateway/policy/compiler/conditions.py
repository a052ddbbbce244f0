"""The conditions of grants, each distinct set of them once."""

from __future__ import annotations

import json
from typing import Any, Final

from eksgateway.policy.compiler.windows import CompiledWindows

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 24 * 3600}


class Conditions:
    def __init__(self, windows: CompiledWindows) -> None:
        self._windows = windows
        self._names: dict[str, str] = {}
        self._sets: dict[str, dict[str, Any]] = {}
        self._grants: dict[str, str] = {}

    def add(self, grant: dict[str, Any]) -> str:
        """Returns the name of its conditions."""
        conditions = self._conditions_of(grant)
        key = json.dumps(conditions, sort_keys=True)
        if key not in self._names:
            self._names[key] = f"c{len(self._names)}"
            self._sets[self._names[key]] = conditions
        self._grants[grant["id"]] = self._names[key]
        return self._names[key]

    def to_json(self) -> dict[str, Any]:
        return {"conditions": self._sets, "grants": self._grants}

    def _conditions_of(self, grant: dict[str, Any]) -> dict[str, Any]:
        """With every condition, because the Rego allows nothing if one is missing. Null asks for nothing."""
        windows = grant.get("windows")
        return {
            "actions": grant["actions"],
            "from": grant.get("from"),
            "until": grant.get("until"),
            "windows": None if windows is None else self._windows.names_of(windows),
            "via": grant.get("via"),
            "claims": grant.get("claims", {}),
            "require": grant.get("require", []),
            "ticket_patterns": grant.get("ticket_patterns"),
            "tags": grant.get("tags", {}),
            "group_tags": grant.get("group_tags", {}),
            "versions": grant.get("versions"),
            "older_than": _to_age(grant.get("older_than")),
            "update_types": grant.get("update_types", []),
        }


def parse_duration(text: str) -> int:
    """In seconds."""
    return int(text[:-1]) * _SECONDS[text[-1]]


def _to_age(text: str | None) -> dict[str, Any] | None:
    return None if text is None else {"text": text, "seconds": parse_duration(text)}
