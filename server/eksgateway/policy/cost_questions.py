"""Makes the questions that cost most with some policy data, for ``decision_cost`` to measure. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final

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
from eksgateway.policy.coverage import Entry, names_cluster, names_target
from eksgateway.policy.edges import parse_time
from eksgateway.policy.question import Question
from eksgateway.policy.source import Content

MANY_GROUPS: Final = 250
_CLUSTERS: Final = 5  # that are tried
FEW_GROUPS: Final = 5
_ANYWHERE: Final = ClusterRef("000000000000", "xx-costs-0", "costs")


@dataclass(frozen=True)
class _Target:
    """A cluster, and the entries that cover it. Blocks are denials and freezes."""

    cluster: ClusterRef
    grants: list[Entry]
    blocks: list[Entry]


def make_questions(content: Content) -> list[dict[str, Any]]:
    """Inputs for each action and stage, by a caller in so many groups that most grants cover; by one in
    MANY_GROUPS, whose claims have as many values as can be, and by one in FEW_GROUPS. Half of the groups are
    of denials and freezes, if these name so many.
    """
    blocks: list[Entry] = [*content["denials"], *content["freezes"]]

    def target_at(cluster: ClusterRef) -> _Target:
        return _Target(cluster, _covering(content["grants"], cluster), _covering(blocks, cluster))

    granted = target_at(_most_named_cluster(content["grants"], _ANYWHERE))
    blocked = target_at(_most_named_cluster(blocks, granted.cluster))
    time = _choose_time(content)
    questions: list[Question] = []
    for groups in (MANY_GROUPS, FEW_GROUPS):
        questions += _with_each_action(_cancels(granted, groups, time))
        if len(blocked.blocks) > len(granted.blocks):
            questions += _cancels(blocked, groups, time)
    return [question.to_input() for question in questions]


def weigh_caller(caller: Caller) -> int:
    """The number of groups to compare with ``max_inline_groups``: the caller's, and no fewer than MANY_GROUPS
    if one of its claims has several values, because only the questions with MANY_GROUPS have such claims.
    """
    has_many_values = any(len(claim.values) > 1 for claim in caller.claims)
    return max(MANY_GROUPS if has_many_values else 0, len(caller.groups))


def _with_each_action(cancels: Sequence[Question]) -> list[Question]:
    cancel, no_match, *justified = cancels
    allowed = [replace(stage, action=action) for action in Action for stage in justified]
    at_target = replace(cancel, action=Action.LIST, any_cluster=True)
    return [*allowed, cancel, no_match, at_target]


def _cancels(target: _Target, groups: int, time: datetime) -> tuple[Question, ...]:
    """Without a justification at both stages, then with one."""
    grants, cluster = target.grants, target.cluster
    caller = _make_caller(grants, target.blocks, groups)
    cancel = Question(caller, Action.CANCEL, cluster, "", "costs", time)
    facts = ClusterFacts("arn", cluster.name, "ACTIVE", "1.34", dict(_first_values(grants, "tags")))
    update = Update("u", "InProgress", next(_most_common(grants, "update_types"), "VersionUpdate"))
    ticket = next(_most_common(grants, "ticket_patterns"), "t")
    at_request = replace(cancel, justification=Justification("r", ticket))
    at_update = replace(at_request, facts=facts, update=update)
    no_match = replace(cancel, facts=replace(facts, tags={}), update=replace(update, type="-"))
    return cancel, no_match, at_request, at_update


def _choose_time(content: Content) -> datetime:
    """When half of the freezes with dates have begun."""
    begins = [time for entry in content["freezes"] if (time := parse_time(entry.get("from"))) is not None]
    return sorted(begins)[len(begins) // 2] if begins else datetime(2026, 1, 1, tzinfo=UTC)


def _most_named_cluster(entries: Sequence[Entry], default: ClusterRef) -> ClusterRef:
    """The cluster of those most named that most of the entries cover."""
    account = _most_named(entries, "accounts", default.account_id)
    region = _most_named(entries, "regions", default.region)
    there = [each for each in entries if names_target(each, account, region)]
    names = [*islice(_most_common(there, "clusters"), _CLUSTERS), default.name]
    clusters = [ClusterRef(account, region, name) for name in names]
    return max(clusters, key=lambda cluster: len(_covering(there, cluster)))


def _most_named(grants: Sequence[Entry], key: str, default: str) -> str:
    return next((name for name, _ in _count(grants, key).most_common() if name != "*"), default)


def _covering(entries: Sequence[Entry], cluster: ClusterRef) -> list[Entry]:
    return [
        each
        for each in entries
        if names_target(each, cluster.account_id, cluster.region) and names_cluster(each, cluster.name)
    ]


def _make_caller(grants: Sequence[Entry], blocks: Sequence[Entry], groups: int) -> Caller:
    named = [*_most_common(grants, "groups")]
    blocked = [*_most_common(blocks, "groups"), *_most_common(blocks, "except_groups")]
    blocked = blocked[: max(groups // 2, groups - len(named))]
    wanted = [*named[: groups - len(blocked)], *blocked]
    others = [f"costs:00000000-0000-0000-0000-{number:012}" for number in range(groups - len(wanted))]
    subjects = (*_most_common(grants, "subjects"), *_most_common(blocks, "subjects"))
    name = subjects[0] if subjects else "jwt:costs:caller"
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
