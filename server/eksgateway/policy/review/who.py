"""The callers who may do an action on a cluster at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from eksgateway.policy.coverage import Entry, names_account, names_cluster, names_region
from eksgateway.policy.review.cases import (
    ANY_JWT,
    Case,
    Facts,
    Opening,
    Restriction,
    find_opening,
    find_partial,
)
from eksgateway.policy.review.grant_cases import cases_of
from eksgateway.policy.review.restrictions import find_restrictions_in_force
from eksgateway.policy.review.times import why_not_in_force
from eksgateway.policy.review.words import find_words


@dataclass(frozen=True, slots=True)
class Where:
    """Without an account or region, all are meant."""

    cluster: str
    account: str = ""
    region: str = ""

    def is_in(self, entry: Entry) -> bool:
        return (
            (not self.account or names_account(entry, self.account))
            and (not self.region or names_region(entry, self.region))
            and names_cluster(entry, self.cluster)
        )


@dataclass(frozen=True, slots=True)
class Right:
    """A caller of a grant, as it is written there.

    ``example`` is a request that is allowed, and None if there is none: ``held_by`` has the denials and
    freezes that leave none (without any, the grant's own conditions do). ``around`` has those that hold on
    a part of the requests.
    """

    caller: str
    kind: Literal["subject", "group"]
    grant: Entry
    held_by: tuple[str, ...] = ()
    around: tuple[str, ...] = ()
    example: Facts | None = None


@dataclass(frozen=True, slots=True)
class AllowedCallers:
    """``not_now``: grants that are not in force at the time, each with the reason."""

    rights: tuple[Right, ...]
    not_now: tuple[tuple[Entry, str], ...]
    restrictions: tuple[Restriction, ...]  # in force there


def find_allowed_callers(content: dict[str, Any], where: Where, action: str, at: datetime) -> AllowedCallers:
    restrictions = [
        each for each in find_restrictions_in_force(content, at, action) if where.is_in(each.entry)
    ]
    rights: list[Right] = []
    not_now: list[tuple[Entry, str]] = []
    for grant in content["grants"]:
        if action not in grant["actions"] or not where.is_in(grant):
            continue
        if reason := why_not_in_force(grant, at):
            not_now.append((grant, reason))
        else:
            rights += _rights_of(grant, where, action, restrictions)
    return AllowedCallers(tuple(rights), tuple(not_now), tuple(restrictions))


def _rights_of(
    grant: Entry, where: Where, action: str, restrictions: Sequence[Restriction]
) -> Iterator[Right]:
    for subject in grant.get("subjects", ()):
        caller = Case(where.account, where.region, (), (subject,), may_join=subject.startswith("jwt:"))
        yield _complete_right(Right(subject, "subject", grant), [caller], where, action, restrictions)
    for group in grant.get("groups", ()):
        callers = [
            Case(where.account, where.region, (), (ANY_JWT,), frozenset({word}), may_join=True)
            for word in find_words((group,))
        ]
        yield _complete_right(Right(group, "group", grant), callers, where, action, restrictions)


def _complete_right(
    right: Right, callers: list[Case], where: Where, action: str, restrictions: Sequence[Restriction]
) -> Right:
    cases = (
        case
        for caller in callers
        for case in cases_of(right.grant, action, caller, (where.cluster,), restrictions)
    )
    found = find_opening(cases, restrictions)
    if isinstance(found, Opening):
        around = find_partial(right.grant, callers[0], found, restrictions)
        return Right(right.caller, right.kind, right.grant, around=around, example=found.facts)
    return Right(right.caller, right.kind, right.grant, held_by=found)
