"""The most that patterns and places which match one value can weigh together: an upper bound.

Of patterns that match the same text, the head of one begins with the head of the other, and the tail of one
ends with the tail of the other. So the bound is the heaviest chain of heads, each with its heaviest chain of
tails. That takes time in proportion to the number of patterns; to try all combinations would not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

Table: TypeAlias = Mapping[str, Any]  # one of the index's tables


class Heaviest(NamedTuple):
    weight: float
    pattern: str  # takes part in it


def sum_weights(parts: Iterable[Heaviest]) -> float:
    return sum(part.weight for part in parts)


class Pattern(NamedTuple):
    """``tail`` is None unless there is a star, and the middle of two stars is left out."""

    head: str
    tail: str | None = None
    deep: bool = False


def list_patterns(table: Table) -> Iterator[tuple[Pattern, list[str]]]:
    """The patterns of a table with their names."""
    for text, names in table["exact"].items():
        yield Pattern(text), names
    for head, tails in table["star"]["heads"].items():
        for tail, names in tails["tails"].items():
            yield Pattern(head, tail), names
    for head, tails in table["two_stars"]["heads"].items():
        for tail, middles in tails["tails"].items():
            yield from ((Pattern(head, tail), names) for names in middles.values())
    for head, names in table["deep"]["heads"].items():
        yield Pattern(head, deep=True), names


def weigh_patterns(patterns: Iterable[tuple[Pattern, float]]) -> Heaviest:
    """The heaviest patterns that one value can match."""
    exact: dict[str, float] = defaultdict(float)
    deep: dict[str, float] = defaultdict(float)
    stars: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for pattern, weight in patterns:
        if pattern.tail is not None:
            stars[pattern.head][pattern.tail] += weight
        else:
            (deep if pattern.deep else exact)[pattern.head] += weight
    tails = {head: _weigh_chain(found, _endings) for head, found in stars.items()}
    star = _weigh_chain({head: found.weight for head, found in tails.items()}, _beginnings)
    if tails:
        star = Heaviest(star.weight, f"{star.pattern}*{tails[star.pattern].pattern}")
    rest = _weigh_chain(deep, _beginnings)
    one = max((Heaviest(weight, text) for text, weight in exact.items()), default=Heaviest(0, ""))
    parts = (one, star, Heaviest(rest.weight, f"{rest.pattern}**"))
    return Heaviest(sum_weights(parts), max(parts).pattern)


class Targets:
    """The scopes that one target can have, and the patterns of each place."""

    def __init__(self, index: Mapping[str, Any]) -> None:
        self._patterns: dict[str, list[Pattern]] = defaultdict(list)
        self._scope_of: dict[str, str] = {}
        scopes = {
            name for regions in index["scopes"].values() for names in regions.values() for name in names
        }
        for scope in sorted(scopes):
            for pattern, places in list_patterns(index["tables"][scope]):
                for place in places:
                    self._patterns[place].append(pattern)
                    self._scope_of[place] = scope
        self.scopes = sorted(scopes)
        self._sets_with: dict[str, list[frozenset[str]]] = defaultdict(list)
        for each in _scope_sets(index["scopes"]):
            for scope in each:
                self._sets_with[scope].append(each)

    def weigh_places(self, weights: Mapping[str, float]) -> Heaviest:
        """The heaviest places that one cluster can have; ``pattern`` is of clusters."""
        by_scope: dict[str, list[tuple[Pattern, float]]] = defaultdict(list)
        for place, weight in weights.items():
            by_scope[self._scope_of[place]] += [(pattern, weight) for pattern in self._patterns[place]]
        found = {scope: weigh_patterns(patterns) for scope, patterns in by_scope.items()}
        total = self.weigh_scopes({scope: part.weight for scope, part in found.items()})
        return Heaviest(total.weight, found[total.pattern].pattern if found else "")

    def weigh_scopes(self, weights: Mapping[str, float]) -> Heaviest:
        """The heaviest scopes that one account and region have; ``pattern`` is the heaviest scope."""
        weighed = frozenset(weights)  # a set, because `&` reads the smaller of two sets only
        chosen = {each & weighed for scope in weights for each in self._sets_with[scope]}
        return max(
            (
                Heaviest(sum(map(weights.__getitem__, each)), max(each, key=weights.__getitem__))
                for each in chosen
            ),
            default=Heaviest(0, ""),
        )


def _scope_sets(scopes: Mapping[str, Mapping[str, list[str]]]) -> set[frozenset[str]]:
    """The distinct sets of scopes that an account and region can have. Others have those of "*"."""
    rows = {
        tuple((region, *names) for region, names in regions.items()): regions for regions in scopes.values()
    }
    everywhere = scopes.get("*", {})
    return {
        frozenset(name for row in (regions, everywhere) for key in (region, "*") for name in row.get(key, ()))
        for regions in (*rows.values(), {})
        for region in {*regions, *everywhere, "*"}
    }


def _weigh_chain(weights: Mapping[str, float], parts: Callable[[str, list[int]], Iterator[str]]) -> Heaviest:
    """The heaviest text together with all others that it begins (or ends) with."""
    lengths = sorted({len(text) for text in weights})
    return max(
        (Heaviest(sum(weights.get(part, 0) for part in parts(text, lengths)), text) for text in weights),
        default=Heaviest(0, ""),
    )


def _beginnings(text: str, lengths: list[int]) -> Iterator[str]:
    return (text[:length] for length in lengths if length <= len(text))


def _endings(text: str, lengths: list[int]) -> Iterator[str]:
    return (text[len(text) - length :] for length in lengths if length <= len(text))
