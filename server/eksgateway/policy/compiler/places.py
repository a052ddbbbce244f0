"""Scopes and places: the distinct targets of grants, denials and freezes."""

from __future__ import annotations

from typing import Any, Final

from eksgateway.policy.compiler.limits import check_targets
from eksgateway.policy.compiler.pattern_table import PatternTable

_ALL: Final = ("*",)


class Places:
    """Names each distinct scope (accounts × regions), and each distinct place (scope, clusters)."""

    def __init__(self) -> None:
        self._except_clusters: dict[str, list[str]] = {}
        self._scopes: dict[str, dict[str, list[str]]] = {}
        self.tables: dict[str, PatternTable] = {}
        self._targets = 0  # of all scopes together
        self._scope_names: dict[tuple[tuple[str, ...], ...], str] = {}
        self._place_names: dict[tuple[Any, ...], str] = {}

    def add_scope(self, entry: dict[str, Any]) -> str:
        """Raises PolicyTooLarge."""
        accounts, regions = (_distinct(entry.get(key, _ALL)) for key in ("accounts", "regions"))
        if name := self._scope_names.get((accounts, regions)):
            return name
        self._targets += len(accounts) * len(regions)
        check_targets(self._targets, entry["id"])
        name = self._scope_names[accounts, regions] = f"s{len(self._scope_names)}"
        self.tables[name] = PatternTable()
        for account in accounts:
            for region in regions:
                self._scopes.setdefault(account, {}).setdefault(region, []).append(name)
        return name

    def add_place(self, entry: dict[str, Any]) -> str:
        """The place of an entry, which is everywhere if it has no clusters."""
        scope = self.add_scope(entry)
        clusters = _distinct(entry["clusters"]) if "clusters" in entry else None
        exceptions = _distinct(entry.get("except_clusters", ()))
        key = (scope, clusters, exceptions)
        if name := self._place_names.get(key):
            return name
        name = self._place_names[key] = f"p{len(self._place_names)}"
        self._except_clusters[name] = list(exceptions)
        if clusters is None:
            self.tables[scope].add_deep("", name)
        for pattern in clusters or ():
            self.tables[scope].add(pattern, name)
        return name

    def to_json(self) -> dict[str, Any]:
        return {"scopes": self._scopes, "except_clusters": self._except_clusters}


def _distinct(texts: Any) -> tuple[str, ...]:
    return tuple(sorted(set(texts)))
