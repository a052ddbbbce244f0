"""Requests that a grant allows by itself, as sets that are narrowed until no denial and no freeze holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Final

from eksgateway.policy.coverage import Entry, names_caller, names_cluster, names_target, spares_caller
from eksgateway.policy.patterns import matches_any
from eksgateway.policy.review.words import TooManyStates, find_words, word_of

ANY_JWT: Final = "jwt:**"
_MAX_STEPS: Final = 1000  # of one search; beyond, and beyond this depth, there may be an opening
_MAX_DEPTH: Final = 100
_FACTS: Final = {"tags", "update_types"}  # keys of a freeze that only some of a cluster's updates fit


@dataclass(frozen=True, slots=True)
class Facts:
    """One request."""

    account: str
    region: str
    cluster: str
    subject: str
    groups: frozenset[str]
    tags: Mapping[str, str]
    update_type: str


@dataclass(frozen=True, slots=True)
class Case:
    """The requests in which cluster and subject match each of their patterns, and tags and update type are
    among the listed. Tags that are not listed are absent.

    ``may_join``: the caller may be in further groups. Clusters that match ``except_clusters`` are left out.
    """

    account: str
    region: str
    cluster: tuple[str, ...]
    subject: tuple[str, ...]
    groups: frozenset[str] = frozenset()
    may_join: bool = False
    tags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    update_types: tuple[str, ...] = ("",)
    except_clusters: tuple[str, ...] = ()

    def examples(self) -> Iterator[Facts]:
        """Raises TooManyStates."""
        for cluster, subject in product(find_words(self.cluster), find_words(self.subject)):
            if not matches_any(self.except_clusters, cluster):
                yield self._facts(cluster, subject)

    def guess(self) -> Facts:
        """A request that may not be of this case."""
        return self._facts(word_of(self.cluster[0]), word_of(self.subject[0]))

    def _facts(self, cluster: str, subject: str) -> Facts:
        tags = {key: values[0] for key, values in self.tags.items()}
        return Facts(self.account, self.region, cluster, subject, self.groups, tags, self.update_types[0])


@dataclass(frozen=True, slots=True)
class Restriction:
    """A denial or a freeze."""

    entry: Entry
    is_freeze: bool

    @property
    def id(self) -> str:
        return str(self.entry["id"])

    def concerns(self, subject: str, groups: Iterable[str]) -> bool:
        """Whether it is about the caller: a denial that names it, or a freeze that does not spare it."""
        if self.is_freeze:
            return not spares_caller(self.entry, subject, groups)
        return names_caller(self.entry, subject, groups)

    def holds(self, facts: Facts) -> bool:
        entry = self.entry
        return (
            names_target(entry, facts.account, facts.region)
            and names_cluster(entry, facts.cluster)
            and self.concerns(facts.subject, facts.groups)
            and facts.update_type in entry.get("update_types", (facts.update_type,))
            and all(facts.tags.get(key) in values for key, values in entry.get("tags", {}).items())
        )

    def find_ways_out(self, case: Case) -> Iterator[Case]:
        """The case without the requests that this restriction is about, in narrower cases."""
        entry = self.entry
        for pattern in entry.get("except_clusters", ()):
            yield replace(case, cluster=(*case.cluster, pattern))
        if not self.is_freeze:
            return
        if case.may_join:
            for pattern in entry.get("except_groups", ()):
                for group in find_words((pattern,)):
                    yield replace(case, groups=case.groups | {group})
        for pattern in entry.get("except_subjects", ()):
            yield replace(case, subject=(*case.subject, pattern))
        if types := _without(case.update_types, entry.get("update_types", case.update_types)):
            yield replace(case, update_types=types)
        for key, values in entry.get("tags", {}).items():
            if left := _without(case.tags.get(key, ()), values):
                yield replace(case, tags={**case.tags, key: left})


@dataclass(frozen=True, slots=True)
class Opening:
    """A request on which no restriction holds, and the ids of those that hold on similar requests."""

    facts: Facts
    evaded: tuple[str, ...]


def find_opening(cases: Iterable[Case], restrictions: Sequence[Restriction]) -> Opening | tuple[str, ...]:
    """An opening, or the ids of the restrictions that hold on every request of the cases."""
    search = _Search(restrictions)
    for case in cases:
        if found := search.find(case, ()):
            return found
    return tuple(search.met)


class _Search:
    def __init__(self, restrictions: Sequence[Restriction]) -> None:
        self._restrictions = restrictions
        self._steps = 0
        self.met: dict[str, None] = {}

    def find(self, case: Case, evaded: tuple[str, ...]) -> Opening | None:
        """Where the search is given up, there may be an opening."""
        try:
            return self._find(case, evaded)
        except TooManyStates:
            return Opening(case.guess(), evaded)

    def _find(self, case: Case, evaded: tuple[str, ...]) -> Opening | None:
        for facts in case.examples():
            self._steps += 1
            holding = next((each for each in self._restrictions if each.holds(facts)), None)
            if holding is None or self._steps > _MAX_STEPS or len(evaded) == _MAX_DEPTH:
                return Opening(facts, evaded)
            self.met[holding.id] = None
            for narrower in holding.find_ways_out(case):
                if found := self.find(narrower, (*evaded, holding.id)):
                    return found
        return None


def find_partial(
    grant: Entry, caller: Case, found: Opening, restrictions: Iterable[Restriction]
) -> tuple[str, ...]:
    """The ids of those evaded, and of the freezes that hold on the caller's request with another update type
    or other tags that the grant allows too.
    """
    facts = replace(found.facts, groups=caller.groups)  # without those joined to be spared
    return tuple(
        each.id
        for each in restrictions
        if each.id in found.evaded
        or (each.is_freeze and each.entry.keys() & _FACTS and each.holds(_turn(facts, grant, each.entry)))
    )


def _turn(facts: Facts, grant: Entry, freeze: Entry) -> Facts:
    """The request with a type and tags that the freeze names, as far as the grant allows them."""
    types = [each for each in grant["update_types"] if each in freeze.get("update_types", ())]
    tags = dict(facts.tags)
    for key, values in freeze.get("tags", {}).items():
        allowed = [each for each in values if each in grant.get("tags", {}).get(key, values)]
        if allowed and key not in grant.get("group_tags", {}):
            tags[key] = allowed[0]
    return replace(facts, update_type=types[0] if types else facts.update_type, tags=tags)


def _without(values: Iterable[str], removed: Iterable[str]) -> tuple[str, ...]:
    gone = set(removed)
    return tuple(each for each in values if each not in gone)
