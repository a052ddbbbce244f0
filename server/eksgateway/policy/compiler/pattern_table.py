"""Finds names by the patterns that match a value, without a list of patterns to try."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


class PatternTable:
    """Maps patterns to names. A lookup cuts the value where heads and tails of patterns end."""

    def __init__(self) -> None:
        self._exact: dict[str, list[str]] = {}
        self._star: dict[str, dict[str, list[str]]] = {}  # head -> tail -> names
        self._two_stars: dict[str, dict[str, dict[str, list[str]]]] = {}  # head -> tail -> middle -> names
        self._deep: dict[str, list[str]] = {}

    def add(self, pattern: str, name: str) -> None:
        if pattern.endswith("/**"):
            self.add_deep(pattern.removesuffix("**"), name)
            return
        match pattern.split("*"):
            case [value]:
                self._exact.setdefault(value, []).append(name)
            case [head, tail]:
                self._star.setdefault(head, {}).setdefault(tail, []).append(name)
            case [head, middle, tail]:
                middles = self._two_stars.setdefault(head, {}).setdefault(tail, {})
                middles.setdefault(middle, []).append(name)
            case _:
                raise ValueError(f"{pattern!r} is no pattern: the content was not checked")

    def add_deep(self, head: str, name: str) -> None:
        """Let all values with this head match; with an empty one all values."""
        self._deep.setdefault(head, []).append(name)

    def to_json(self) -> dict[str, Any]:
        return {
            "exact": self._exact,
            "star": _heads_to_json(self._star),
            "two_stars": _heads_to_json(self._two_stars),
            "deep": {"lengths": _lengths(self._deep), "heads": self._deep},
        }


def _heads_to_json(heads: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "lengths": _lengths(heads),
        "heads": {head: {"lengths": _lengths(tails), "tails": tails} for head, tails in heads.items()},
    }


def _lengths(texts: Iterable[str]) -> list[int]:
    return sorted({len(text) for text in texts})
