"""Finds the entries that name a caller, among thousands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import TypeAlias

from eksgateway.policy.coverage import Entry
from eksgateway.policy.lint.containment import member_of
from eksgateway.policy.lint.pattern_index import PatternIndex
from eksgateway.policy.review.words import word_of

NamedCaller: TypeAlias = tuple[str, str]  # subjects or groups, and the pattern
CallerIndex: TypeAlias = dict[str, PatternIndex[int]]  # numbers of entries


def find_naming(index: CallerIndex, caller: NamedCaller) -> Iterator[AbstractSet[int]]:
    """The numbers of the entries that name each such caller, by their pattern."""
    key, pattern = caller
    yield from index[key].find(word_of(pattern))
    if key == "groups":
        yield from index["subjects"].find(member_of(pattern))


def callers_of(entry: Entry) -> list[NamedCaller]:
    return [(key, pattern) for key in ("subjects", "groups") for pattern in entry.get(key, ())]


def index_callers(entries: Sequence[Entry]) -> CallerIndex:
    index: CallerIndex = {"subjects": PatternIndex(), "groups": PatternIndex()}
    for number, entry in enumerate(entries):
        for key, pattern in callers_of(entry):
            index[key].add(pattern, number)
    return index
