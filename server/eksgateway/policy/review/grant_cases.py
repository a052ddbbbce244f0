"""The requests that a grant allows by itself, as cases."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import product

from eksgateway.policy.coverage import Entry
from eksgateway.policy.review.cases import Case, Restriction
from eksgateway.policy.review.words import FREE, word_of

_ONLY_OF_TOKENS = ("via", "claims")


def cases_of(
    grant: Entry, action: str, caller: Case, clusters: Sequence[str], restrictions: Sequence[Restriction]
) -> Iterator[Case]:
    """The requests for the action by ``caller`` on clusters that match one of ``clusters``.

    ``caller`` has the subject and the groups; its account and region are those asked for, or empty for any.
    """
    if is_spiffe(caller) and any(key in grant for key in _ONLY_OF_TOKENS):
        return
    places = product(
        _pick_distinct(grant["accounts"], caller.account, _collect_names(restrictions, "accounts")),
        _pick_distinct(grant["regions"], caller.region, _collect_names(restrictions, "regions")),
        clusters,
    )
    for account, region, cluster in places:
        case = replace(
            caller,
            account=account,
            region=region,
            cluster=(cluster,),
            except_clusters=tuple(grant.get("except_clusters", ())),
        )
        yield from _add_facts(case, grant, action)


def is_spiffe(caller: Case) -> bool:
    return caller.subject[0].startswith("spiffe:")


def _add_facts(case: Case, grant: Entry, action: str) -> Iterator[Case]:
    """``list`` is decided before EKS is read, so that tags are not judged."""
    if action == "list":
        yield case
        return
    types = tuple(grant["update_types"]) if action == "cancel" else case.update_types
    tags = {key: tuple(values) for key, values in grant.get("tags", {}).items()}
    wanted: dict[str, str] = grant.get("group_tags", {})
    choices = [_list_group_values(case, pattern, tags.get(key)) for key, pattern in wanted.items()]
    for values in product(*choices):
        named = {key: (value,) for key, value in zip(wanted, values, strict=True)}
        groups = {pattern.replace("*", value) for pattern, value in zip(wanted.values(), values, strict=True)}
        yield replace(case, update_types=types, tags=tags | named, groups=case.groups | groups)


def _list_group_values(case: Case, pattern: str, allowed: Sequence[str] | None) -> list[str]:
    """Values of a tag that name a group of the caller."""
    if case.may_join and not is_spiffe(case):
        return [word_of("**")] if allowed is None else [*allowed]
    return [each for each in cut_groups(pattern, case.groups) if allowed is None or each in allowed]


def cut_groups(pattern: str, groups: Iterable[str]) -> list[str]:
    """The values of a tag that name one of the groups, by a pattern of ``group_tags``. None is empty."""
    head, _, tail = pattern.partition("*")
    return [
        group[len(head) : len(group) - len(tail)]
        for group in groups
        if group.startswith(head) and group.endswith(tail) and len(group) > len(head) + len(tail)
    ]


def _collect_names(restrictions: Iterable[Restriction], key: str) -> set[str]:
    return {name for each in restrictions for name in each.entry.get(key, ())}


def _pick_distinct(listed: Sequence[str], asked: str, named: set[str]) -> list[str]:
    """Those asked for that make a difference: of the ones that no restriction names, the first."""
    if asked:
        return [asked] if asked in listed or "*" in listed else []
    if "*" in listed:
        return [FREE, *sorted(named - {"*"})]
    others = [each for each in listed if each not in named]
    return [*others[:1], *(each for each in listed if each in named)]
