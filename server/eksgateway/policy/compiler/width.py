"""Refuses a policy of which a decision could cost too much, by what the costliest caller on the costliest
cluster can make it look at.

It is computed from the index alone, so the answer is the same on every machine. Costs are µs of CPU time in
Wasm, measured for each step, and rounded up.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, Final

from eksgateway.model import MAX_CLAIM_VALUES
from eksgateway.policy.compiler.freeze_width import WINDOW_US, weigh_freezes
from eksgateway.policy.compiler.limits import CALLER_GROUPS, MAX_DECISION_US
from eksgateway.policy.compiler.overlaps import (
    Heaviest,
    Pattern,
    Table,
    Targets,
    list_patterns,
    sum_weights,
    weigh_patterns,
)
from eksgateway.policy.engine import PolicyTooLarge

Index = Mapping[str, Any]

_DECISION: Final = 60.0
_GROUP: Final = 0.4  # of the caller
_CUT: Final = 0.4  # of a text, at the end of a head
_TAIL: Final = 0.9  # compared with the text
_MIDDLE: Final = 0.2  # of two stars
_SCOPE: Final = 1.5
_PLACE: Final = 3.0
_FEW: Final = 0.2  # a group pattern of the place
_MANY: Final = 0.3  # a token of the caller's
_ID: Final = 2.9
_DENIAL: Final = 1.5  # more than a grant
_SORTED_ID: Final = 0.0045  # × ids × ids
_CONDITIONS: Final = 6.0
_CONDITION: Final = 1.6  # that does not hold, with its reason
_MATCHES: Final = (0.5, 1.4, 4.5)  # of a pattern without, with one and with two stars


def weigh_decision(index: Index) -> float:
    """The µs of CPU time of the costliest decision. ``index``: without its markers."""
    return _DECISION + sum_weights(_weigh_parts(index).values())


def check_width(index: Index) -> None:
    """``index``: without its markers. Raises PolicyTooLarge."""
    costs = _weigh_parts(index)
    total = _DECISION + sum_weights(costs.values())
    if total > MAX_DECISION_US:
        name, worst = max(costs.items(), key=lambda item: item[1].weight)
        raise PolicyTooLarge(
            f"a decision could take {total / 1000:.1f} ms of CPU time for a caller in {CALLER_GROUPS} groups,"
            f" and at most {MAX_DECISION_US / 1000:g} ms are possible. {worst.weight / 1000:.1f} ms of it are"
            f" for the {name} that apply together, with {worst.pattern!r} among them: {_ADVICE[name]}"
        )


def _weigh_parts(index: Index) -> dict[str, Heaviest]:
    targets = Targets(index)
    callers = _Callers(index, targets)
    return {
        "group patterns": callers.weigh_groups(),
        "cluster patterns": _weigh_places(index, targets, callers.tokens),
        "grants and denials": callers.weigh_ids(),
        "freezes": weigh_freezes(index, targets),
    }


_ADVICE: Final = {
    "group patterns": "name groups without `*`, or with the same text before and after it",
    "cluster patterns": "merge grants and freezes that differ in their callers only, or name fewer patterns"
    " that match the same cluster",
    "grants and denials": "let one grant name all groups with the same conditions, or use group_tags",
    "freezes": "merge freezes of the same clusters and time, or remove those that have ended",
}


class _Callers:
    """The most that one caller can have: tokens, and ids of grants and denials."""

    def __init__(self, index: Index, targets: Targets) -> None:
        self._index = index
        self._groups = index["tables"]["groups"]
        self._ids = {kind: _TokenIds(index, targets, kind) for kind in ("groups", "subjects")}
        self._costliest = self._costliest_groups()
        self.tokens = len(self._costliest)

    def weigh_groups(self) -> Heaviest:
        lookup = _weigh_lookup(self._groups)
        return Heaviest(CALLER_GROUPS * (_GROUP + lookup.weight), lookup.pattern)

    def weigh_ids(self) -> Heaviest:
        groups = self._ids["groups"]
        by_group = min(sum(map(groups.most, self._costliest)), groups.at_one_target)
        subject = weigh_patterns(
            (pattern, self._ids["subjects"].most(token))
            for pattern, names in list_patterns(self._index["tables"]["subjects"])
            for token in names
        )
        ids = by_group + subject.weight
        conditions = _weigh_heaviest_conditions(self._index, _list_group_ids(self._index), by_group)
        conditions += _weigh_heaviest_conditions(
            self._index, self._index["by_subject"].values(), subject.weight
        )
        denials = min(ids, len(self._index["denials"]))
        weight = ids * _ID + denials * _DENIAL + ids * ids * _SORTED_ID + conditions
        return Heaviest(weight, self._costliest[0] if by_group > subject.weight else subject.pattern)

    def _costliest_groups(self) -> list[str]:
        """The tokens with most ids that one caller can have. Each of its groups has one without a `*`."""
        exact: list[str] = []
        starred: list[str] = []
        numbers: list[tuple[Pattern, float]] = []
        for pattern, tokens in list_patterns(self._groups):
            if pattern.tail is None and not pattern.deep:
                exact += tokens
            else:
                starred += tokens
                numbers.append((pattern, len(tokens)))
        most = int(CALLER_GROUPS * weigh_patterns(numbers).weight)
        ids = self._ids["groups"]
        return ids.sort(ids.sort(exact)[:CALLER_GROUPS] + ids.sort(starred)[:most])


class _TokenIds:
    """The most ids that tokens have at one target: at the places of a cluster, or in its scopes."""

    def __init__(self, index: Index, targets: Targets, kind: str) -> None:
        at = dict(_ids_at_places(index, kind))
        anywhere = index["anywhere_by_group" if kind == "groups" else "anywhere_by_subject"]
        in_scopes = {token: _count(ids) for token, ids in anywhere.items()}
        self._most = {
            token: max(
                targets.weigh_places(at.get(token, {})).weight,
                targets.weigh_scopes(in_scopes.get(token, {})).weight,
            )
            for token in at.keys() | in_scopes
        }
        self.at_one_target = max(
            targets.weigh_places(_add(at.values())).weight,
            targets.weigh_scopes(_add(in_scopes.values())).weight,
        )

    def most(self, token: str) -> float:
        return self._most.get(token, 0)

    def sort(self, tokens: Iterable[str]) -> list[str]:
        return sorted(tokens, key=lambda token: (-self.most(token), token))


def _ids_at_places(index: Index, kind: str) -> Iterator[tuple[str, dict[str, float]]]:
    if kind == "subjects":
        yield from ((token, _count(ids)) for token, ids in index["by_subject"].items())
        return
    at: dict[str, dict[str, float]] = defaultdict(dict)
    for place, tokens in chain(index["few"].items(), index["many"].items()):
        for token, ids in tokens.items():
            at[token][place] = len(ids)
    yield from at.items()


def _add(weights: Iterable[Mapping[str, float]]) -> dict[str, float]:
    added: dict[str, float] = defaultdict(float)
    for each in weights:
        for key, weight in each.items():
            added[key] += weight
    return added


def _count(ids: Mapping[str, list[str]]) -> dict[str, float]:
    return {key: float(len(names)) for key, names in ids.items()}


def _weigh_places(index: Index, targets: Targets, tokens: int) -> Heaviest:
    weights: dict[str, float] = {}
    for place, exceptions in index["except_clusters"].items():
        lookups = tokens * _MANY if place in index["many"] else len(index["few"].get(place, ())) * _FEW
        weights[place] = _PLACE + lookups + _weigh_matches(exceptions)
    places = targets.weigh_places(weights)
    scopes = {scope: _SCOPE + _weigh_lookup(index["tables"][scope]).weight for scope in targets.scopes}
    return Heaviest(places.weight + targets.weigh_scopes(scopes).weight, places.pattern)


def _weigh_lookup(table: Table) -> Heaviest:
    """The cost of one value: cut at each length of heads, then at each length of tails of the heads that it
    begins with, and compared with each middle.
    """
    lengths = sum(len(table[kind]["lengths"]) for kind in ("star", "two_stars", "deep"))
    heads: dict[str, float] = defaultdict(float)
    for head, tails in table["star"]["heads"].items():
        heads[head] += len(tails["lengths"]) * _TAIL
    for head, tails in table["two_stars"]["heads"].items():
        heads[head] += len(tails["lengths"]) * _TAIL
        heads[head] += max(len(middles) for middles in tails["tails"].values()) * _MIDDLE
    heaviest = weigh_patterns((Pattern(head, ""), weight) for head, weight in heads.items())
    return Heaviest(lengths * _CUT + heaviest.weight, heaviest.pattern)


def _list_group_ids(index: Index) -> Iterator[Mapping[str, list[str]]]:
    return chain(index["few"].values(), index["many"].values())


def _weigh_heaviest_conditions(index: Index, ids: Iterable[Mapping[str, list[str]]], most: float) -> float:
    """So many conditions of grants among these ids."""
    found = chain.from_iterable(chain.from_iterable(each.values()) for each in ids)
    names = {index["grants"][name] for name in found if name in index["grants"]}
    weights = sorted((_weigh_conditions(index["conditions"][name]) for name in names), reverse=True)
    return sum(weights[: int(most)])


def _weigh_conditions(conditions: Mapping[str, Any]) -> float:
    parts = chain.from_iterable(
        value.values() if isinstance(value, dict) else [value]
        for key, value in conditions.items()
        if key not in _USUAL
    )
    return (
        _CONDITIONS
        + len(conditions["windows"] or ()) * WINDOW_US
        + sum(map(_weigh_matches, conditions["claims"].values())) * MAX_CLAIM_VALUES
        + sum(
            _CONDITION + (_weigh_matches(part) if isinstance(part, list) else 0)
            for part in parts
            if part is not None
        )
    )


def _weigh_matches(patterns: Iterable[str]) -> float:
    """Of each pattern with one value."""
    return sum(_MATCHES[pattern.count("*")] for pattern in patterns)


_USUAL: Final = ("actions", "update_types", "require")
