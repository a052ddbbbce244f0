"""The answers of `eksgateway policy who` and `can`, as tables and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

from eksgateway.cli.output.tables import Table
from eksgateway.policy.coverage import Entry
from eksgateway.policy.question import utc_seconds
from eksgateway.policy.review.can import Permission, Permissions, ReviewedCaller
from eksgateway.policy.review.cases import Restriction
from eksgateway.policy.review.conditions import conditions_of, describe_conditions, describe_keys, shorten
from eksgateway.policy.review.who import AllowedCallers, Right, Where

_OF_GRANTS = ("accounts", "regions", "clusters", "except_clusters", "from", "until", "owner", "note")


def _drop_empty_columns(table: Table) -> Table:
    kept = [index for index, cells in enumerate(zip(*table.rows, strict=True)) if any(cells)]
    rows = [tuple(row[index] for index in kept) for row in table.rows]
    return Table(tuple(table.columns[index] for index in kept), rows)


def make_allowed_callers_tables(found: AllowedCallers, action: str) -> tuple[Table, Table]:
    """The callers who may, and those who are held back."""
    may = [
        (_describe_caller(each), *_make_grant_cells(each.grant, [action], each.around, found.restrictions))
        for each in found.rights
        if each.example
    ]
    held = [
        (_describe_caller(each), str(each.grant["id"]), _join_restrictions(each.held_by, found.restrictions))
        for each in found.rights
        if not each.example
    ]
    columns = ("CALLER", "GRANT", "OWNER", "UNTIL", "WHERE", "IF", "NOTE")
    return _drop_empty_columns(Table(columns, may)), Table(("CALLER", "GRANT", "BY"), held)


def make_permissions_tables(found: Permissions) -> tuple[Table, Table]:
    """The rights that the caller has, and those that are held back."""
    may = [
        (
            *_describe_rights(each),
            *_make_grant_cells(each.grant, each.actions, each.around, found.restrictions),
        )
        for each in found.permissions
        if each.examples
    ]
    held = [
        (*_describe_rights(each), str(each.grant["id"]), _join_restrictions(each.held_by, found.restrictions))
        for each in found.permissions
        if not each.examples
    ]
    columns = ("ACTIONS", "CLUSTERS", "GRANT", "OWNER", "UNTIL", "WHERE", "IF", "NOTE")
    return _drop_empty_columns(Table(columns, may)), Table(("ACTIONS", "CLUSTERS", "GRANT", "BY"), held)


def describe_rest(found: AllowedCallers | Permissions) -> Iterator[str]:
    """The grants that do not count at the time, and the denials and freezes in force."""
    if found.not_now:
        yield from ("", "Not now:")
        yield from (f"  grant {grant['id']} {reason}" for grant, reason in found.not_now)
    if found.restrictions:
        yield from ("", "In force:")
        yield from (f"  {describe_restriction(each)}" for each in found.restrictions)


def allowed_callers_to_json(found: AllowedCallers, where: Where, action: str, at: datetime) -> dict[str, Any]:
    def row(right: Right) -> dict[str, Any]:
        return {"caller": right.caller, "kind": right.kind, **_grant_to_json(right.grant, [action])}

    return {
        "at": utc_seconds(at),
        "action": action,
        "cluster": where.cluster,
        "account": where.account or None,
        "region": where.region or None,
        "callers": [row(each) | {"partly_held_by": [*each.around]} for each in found.rights if each.example],
        "held_back": [row(each) | {"by": [*each.held_by]} for each in found.rights if not each.example],
        **_rest_to_json(found),
    }


def permissions_to_json(found: Permissions, caller: ReviewedCaller, at: datetime) -> dict[str, Any]:
    def row(each: Permission) -> dict[str, Any]:
        return {
            "actions": [*each.actions],
            **_grant_to_json(each.grant, each.actions),
            "clusters": [*each.clusters],
        }

    return {
        "at": utc_seconds(at),
        "subject": caller.subject,
        "groups": [*caller.groups],
        "rights": [
            row(each) | {"partly_held_by": [*each.around]} for each in found.permissions if each.examples
        ],
        "held_back": [row(each) | {"by": [*each.held_by]} for each in found.permissions if not each.examples],
        **_rest_to_json(found),
    }


def _describe_caller(right: Right) -> str:
    return f"group {right.caller}" if right.kind == "group" else right.caller


def _describe_rights(permission: Permission) -> tuple[str, str]:
    return ", ".join(permission.actions), _describe_clusters(permission.grant, permission.clusters)


def _make_grant_cells(
    grant: Entry, actions: Iterable[str], around: Sequence[str], restrictions: Sequence[Restriction]
) -> tuple[str, ...]:
    """GRANT, OWNER, UNTIL, WHERE, IF, NOTE."""
    partly = [f"{_noun_of(each)} {each.id} does not apply" for each in restrictions if each.id in around]
    conditions = [*describe_conditions(grant, actions), *partly]
    return (
        str(grant["id"]),
        str(grant.get("owner", "")),
        str(grant.get("until", "")),
        _describe_place(grant),
        "; ".join(conditions),
        str(grant.get("note", "")),
    )


def _describe_place(entry: Entry) -> str:
    """Accounts and regions. Empty for everywhere."""
    lists = [", ".join(shorten(entry.get(key, ["*"]))) for key in ("accounts", "regions")]
    return "" if lists == ["*", "*"] else " in ".join(lists)


def _describe_clusters(entry: Entry, named: Sequence[str]) -> str:
    excluded = f" but {', '.join(shorten(entry['except_clusters']))}" if "except_clusters" in entry else ""
    return f"{', '.join(shorten(named))}{excluded}"


def _join_restrictions(ids: Sequence[str], restrictions: Sequence[Restriction]) -> str:
    if not ids:
        return "its own conditions, which cannot be met"
    nouns = {each.id: _noun_of(each) for each in restrictions}
    return ", ".join(f"{nouns[each]} {each}" for each in ids)


def _noun_of(restriction: Restriction) -> str:
    return "freeze" if restriction.is_freeze else "denial"


def describe_restriction(restriction: Restriction) -> str:
    """In one line, with its callers, clusters, conditions, reason, owner and note."""
    entry = restriction.entry
    spared = _callers_of(entry, "except_")
    parts = [
        _callers_of(entry),
        f"clusters {_describe_clusters(entry, entry.get('clusters', ['*']))}",
        _describe_place(entry),
        *describe_keys(entry, ("tags", "update_types", "windows")),
        f"until {entry['until']}" if "until" in entry else "",
        f"spares {spared}" if spared else "",
        str(entry.get("reason", "")),
        f"owner {entry['owner']}" if "owner" in entry else "",
        str(entry.get("note", "")),
    ]
    return f"{_noun_of(restriction)} {restriction.id}: {'; '.join(filter(None, parts))}"


def _callers_of(entry: Entry, prefix: str = "") -> str:
    groups = (f"group {each}" for each in entry.get(f"{prefix}groups", ()))
    return ", ".join(shorten([*entry.get(f"{prefix}subjects", ()), *groups]))


def _grant_to_json(grant: Entry, actions: Iterable[str]) -> dict[str, Any]:
    return {
        "grant": grant["id"],
        **{key: grant.get(key) for key in _OF_GRANTS},
        "conditions": conditions_of(grant, actions),
    }


def _rest_to_json(found: AllowedCallers | Permissions) -> dict[str, Any]:
    return {
        "not_now": [
            {"grant": grant["id"], "why": reason, "from": grant.get("from"), "until": grant.get("until")}
            for grant, reason in found.not_now
        ],
        "denials": [each.entry for each in found.restrictions if not each.is_freeze],
        "freezes": [each.entry for each in found.restrictions if each.is_freeze],
    }
