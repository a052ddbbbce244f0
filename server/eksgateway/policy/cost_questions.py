"""Makes the questions that cost most with some policy data, for ``decision_cost`` to measure. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final, TypeAlias

from eksgateway.model import (
    MAX_CLAIM_VALUES,
    Action,
    Caller,
    Claim,
    ClusterFacts,
    ClusterRef,
    Justification,
    Update,
)
from eksgateway.policy.edges import parse_time
from eksgateway.policy.patterns import matches
from eksgateway.policy.question import Question
from eksgateway.policy.source import Content

MANY_GROUPS: Final = 250
_CLUSTERS: Final = 5  # that are tried
FEW_GROUPS: Final = 5

Entry: TypeAlias = Mapping[str, Any]


def make_questions(content: Content) -> list[dict[str, Any]]:
    """Inputs for each action and stage, by a caller in so many groups that most grants cover; by one in
    MANY_GROUPS, whose claims have as many values as can be, and by one in FEW_GROUPS.
    """
    return [
        question.to_input()
        for groups in (MANY_GROUPS, FEW_GROUPS)
        for question in _costliest(content["grants"], content["freezes"], groups)
    ]


def count_groups(caller: Caller) -> int:
    """The groups of a caller, and no fewer than MANY_GROUPS if one of its claims has several values: only the
    questions with MANY_GROUPS have such claims.
    """
    has_many_values = any(len(claim.values) > 1 for claim in caller.claims)
    return max(MANY_GROUPS if has_many_values else 0, len(caller.groups))


def _costliest(grants: Sequence[Entry], freezes: Sequence[Entry], groups: int) -> tuple[Question, ...]:
    covering, cluster = _most_granted_cluster(grants)
    begins = [time for freeze in freezes if (time := parse_time(freeze.get("from"))) is not None]
    time = sorted(begins)[len(begins) // 2] if begins else datetime(2026, 1, 1, tzinfo=UTC)
    cancel = Question(_make_caller(covering, groups), Action.CANCEL, cluster, "", "costs", time)
    facts = ClusterFacts("arn", cluster.name, "ACTIVE", "1.34", dict(_first_values(covering, "tags")))
    update = Update("u", "InProgress", next(_most_common(covering, "update_types"), "VersionUpdate"))
    ticket = next(_most_common(covering, "ticket_patterns"), "t")
    at_request = replace(cancel, justification=Justification("r", ticket))
    at_update = replace(at_request, facts=facts, update=update)
    allowed = [replace(stage, action=action) for action in Action for stage in (at_request, at_update)]
    no_match = replace(cancel, facts=replace(facts, tags={}), update=replace(update, type="-"))
    at_target = replace(cancel, action=Action.LIST, any_cluster=True)
    return (*allowed, cancel, no_match, at_target)


def _most_granted_cluster(grants: Sequence[Entry]) -> tuple[Sequence[Entry], ClusterRef]:
    """The cluster of those most named that most grants cover, and these grants."""
    account = _most_named(grants, "accounts", "000000000000")
    region = _most_named(grants, "regions", "xx-costs-0")
    there = [grant for grant in grants if _names(grant["accounts"], account)]
    there = [grant for grant in there if _names(grant["regions"], region)]
    names = [*islice(_most_common(there, "clusters"), _CLUSTERS), "costs"]
    covering = {name: [grant for grant in there if _covers(grant, name)] for name in names}
    most = max(covering, key=lambda name: len(covering[name]))
    return covering[most], ClusterRef(account, region, most)


def _most_named(grants: Sequence[Entry], key: str, default: str) -> str:
    return next((name for name, _ in _count(grants, key).most_common() if name != "*"), default)


def _names(values: Sequence[str], value: str) -> bool:
    return value in values or "*" in values


def _covers(grant: Entry, cluster: str) -> bool:
    named = any(matches(pattern, cluster) for pattern in grant["clusters"])
    return named and not any(matches(pattern, cluster) for pattern in grant.get("except_clusters", ()))


def _make_caller(grants: Sequence[Entry], groups: int) -> Caller:
    wanted = list(_most_common(grants, "groups"))[:groups]
    others = [f"costs:00000000-0000-0000-0000-{number:012}" for number in range(groups - len(wanted))]
    name = next(_most_common(grants, "subjects"), "jwt:costs:caller")
    kind = "spiffe" if name.startswith("spiffe:") else "jwt"
    via = next(_most_common(grants, "via"), None)
    extra = [f"costs-{number}" for number in range(1, MAX_CLAIM_VALUES)] if groups == MANY_GROUPS else []
    claims = [Claim(name, (*extra, value)) for name, value in _first_values(grants, "claims")]
    return Caller(type=kind, id=name, issuer="", groups=(*wanted, *others), via=via, claims=tuple(claims))


def _most_common(grants: Iterable[Entry], key: str) -> Iterator[str]:
    return (_fill_stars(text) for text, _ in _count(grants, key).most_common())


def _count(grants: Iterable[Entry], key: str) -> Counter[str]:
    return Counter(text for grant in grants for text in grant.get(key, ()))


def _first_values(grants: Iterable[Entry], key: str) -> Iterator[tuple[str, str]]:
    """Of the first grant with each name, e.g. of ``tags``."""
    first: dict[str, str] = {}
    for grant in grants:
        for name, values in grant.get(key, {}).items():
            first.setdefault(name, _fill_stars(values[0]))
    yield from first.items()


def _fill_stars(pattern: str) -> str:
    """A text that the pattern matches."""
    return pattern.replace("**", "x").replace("*", "x").replace("#", "1")
