"""Finds the grants of a caller: by place and group pattern, or by subject pattern and place."""

from __future__ import annotations

from typing import Any, Final

from eksgateway.policy.compiler.pattern_table import PatternTable

KINDS: Final = ("subjects", "groups")
FEW: Final = 16  # group patterns at one place that are compared one by one, and not looked up

# A pattern of callers, and a place or scope -> ids.
Ids = dict[str, dict[str, list[str]]]
# A pattern of callers, a scope and a name for equal conditions -> the first id.
_FirstIds = dict[str, dict[str, dict[str, str]]]


class Callers:
    def __init__(self) -> None:
        self.tables = {kind: PatternTable() for kind in KINDS}
        self._tokens: dict[str, set[str]] = {kind: set() for kind in KINDS}
        self._at: dict[str, Ids] = {kind: {} for kind in KINDS}
        self._anywhere: dict[str, _FirstIds] = {kind: {} for kind in KINDS}

    def add(self, entry: dict[str, Any], *, place: str, scope: str | None, alike: str) -> None:
        """``scope``: where the entry counts at stage target, if it does. There, one entry stands for all that
        are ``alike``: a caller may have a grant on each of thousands of clusters.
        """
        for kind in KINDS:
            at, anywhere = self._at[kind], self._anywhere[kind]
            for pattern in dict.fromkeys(entry.get(kind, ())):
                self._add_token(kind, pattern)
                at.setdefault(pattern, {}).setdefault(place, []).append(entry["id"])
                if scope is not None:
                    firsts = anywhere.setdefault(pattern, {}).setdefault(scope, {})
                    firsts[alike] = min(entry["id"], firsts.get(alike, entry["id"]))

    def add_exceptions(self, freeze: dict[str, Any]) -> None:
        for kind in KINDS:
            for pattern in freeze.get(f"except_{kind}", ()):
                self._add_token(kind, pattern)

    def _add_token(self, kind: str, pattern: str) -> None:
        """Let the pattern be found for callers that match it; patterns name themselves."""
        if pattern not in self._tokens[kind]:
            self._tokens[kind].add(pattern)
            self.tables[kind].add(pattern, pattern)

    def to_json(self) -> dict[str, Any]:
        by_place: Ids = {}
        for pattern, places in self._at["groups"].items():
            for place, ids in places.items():
                by_place.setdefault(place, {})[pattern] = ids
        many = {place: groups for place, groups in by_place.items() if len(groups) > FEW}
        return {
            "few": {place: groups for place, groups in by_place.items() if place not in many},
            "many": many,
            "is_many": dict.fromkeys(many, True),
            "by_subject": self._at["subjects"],
            "anywhere_by_group": _list_ids(self._anywhere["groups"]),
            "anywhere_by_subject": _list_ids(self._anywhere["subjects"]),
        }


def _list_ids(anywhere: _FirstIds) -> Ids:
    return {
        pattern: {scope: list(firsts.values()) for scope, firsts in scopes.items()}
        for pattern, scopes in anywhere.items()
    }
