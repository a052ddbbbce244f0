"""Finds the patterns that match a word, among thousands."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import Generic, TypeVar

from eksgateway.policy.coverage import Entry
from eksgateway.policy.patterns import matches

T = TypeVar("T")


class PatternIndex(Generic[T]):
    """Patterns by their text before the first and after the last star."""

    def __init__(self) -> None:
        self._by_ends: dict[tuple[int, int], dict[tuple[str, str], dict[str, set[T]]]] = {}

    @classmethod
    def of(cls, patterns: Iterable[T]) -> PatternIndex[T]:
        index = cls()
        for pattern in patterns:
            index.add(str(pattern), pattern)
        return index

    def has(self, word: str) -> bool:
        return next(self.find(word), None) is not None

    def add(self, pattern: str, item: T) -> None:
        head, star, _ = pattern.partition("*")
        tail = pattern.rpartition("*")[2] if star else ""
        ends = self._by_ends.setdefault((len(head), len(tail)), {})
        ends.setdefault((head, tail), {}).setdefault(pattern, set()).add(item)

    def find(self, word: str) -> Iterator[AbstractSet[T]]:
        """The items of each pattern that matches."""
        for (before, after), ends in self._by_ends.items():
            found = ends.get((word[:before], word[len(word) - after :] if len(word) >= after else ""))
            for pattern, items in found.items() if found else ():
                if matches(pattern, word):
                    yield items


def index_clusters(entries: Sequence[Entry]) -> PatternIndex[int]:
    """The numbers of the entries by their patterns of clusters. An entry without clusters has all."""
    index: PatternIndex[int] = PatternIndex()
    for number, entry in enumerate(entries):
        for pattern in entry.get("clusters", ["*"]):
            index.add(pattern, number)
    return index
