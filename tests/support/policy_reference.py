"""The policy language, evaluated naively: every grant, denial and freeze is compared with the question.

Written from the description of the language, and not from the Rego or the compiler, which it checks. It takes
the content of the data (checked, sets resolved) and the policy's input.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from support.policy_reference_windows import lie_inside, may_lie_inside

Entry = dict[str, Any]
Content = dict[str, list[Entry]]
Result = dict[str, Any]

STRANGER = "You have no grant on this cluster."
STRANGER_THERE = "You have no grant in this account and region."
MOST_EXPLAINED = 100
MOST_CHARACTERS = 400
_NOT_COMPARED = {"id", "subjects", "groups", "clusters", "except_clusters", "owner", "note"}
# Unicode's White_Space; str.strip() would also remove U+001C to U+001F.
_BLANK = "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
_BLANK += "\u2028\u2029\u202f\u205f\u3000"


@dataclass(frozen=True)
class _Asked:
    """The members of a policy input that the language compares. At stage update there are facts."""

    stage: str
    action: str
    time: datetime
    subject: str
    groups: list[str]
    via: str | None
    claims: dict[str, list[str]]
    given: dict[str, str]
    account: str
    region: str
    cluster: str
    facts: dict[str, Any]


def decide(content: Content, document: dict[str, Any]) -> Result:
    """``{"allow": …, "rules": […], "reasons": […]}`` for a policy input."""
    asked = _read(document)
    covering = [grant for grant in content["grants"] if _covers(grant, asked)]
    if asked.stage == "target":
        covering = _first_alike(covering, asked)
    if not covering:
        return _result([("", STRANGER_THERE if asked.stage == "target" else STRANGER)])
    granting = [grant for grant in covering if asked.action in grant["actions"]]
    allowing = [grant for grant in granting if not list(_faults(grant, asked))]
    denials = [denial for denial in content["denials"] if _forbids(denial, asked)]
    freezes = [freeze for freeze in content["freezes"] if asked.action == "cancel" and _holds(freeze, asked)]
    if allowing and not denials and not freezes:
        return _result(((g["id"], f"Grant {g['id']} allows this.") for g in _first(allowing)), allow=True)
    objections = [(d["id"], f"Denial {d['id']} forbids this: {d['reason']}") for d in _first(denials)]
    if not granting:
        objections += [(g["id"], f"Grant {g['id']} does not allow {asked.action}.") for g in _first(covering)]
        return _result(objections)
    objections += [(f["id"], _freeze_reason(f)) for f in _first(freezes)]
    if not allowing:
        objections += [(g["id"], fault) for g in _first(granting) for fault in _faults(g, asked)]
    return _result(objections)


def _first(entries: list[Entry]) -> list[Entry]:
    return sorted(entries, key=lambda entry: entry["id"])[:MOST_EXPLAINED]


def _first_alike(covering: list[Entry], asked: _Asked) -> list[Entry]:
    """Of grants that differ in clusters only, the first by id stands for all, for each pattern of callers."""
    first: dict[str, Entry] = {}
    for grant in sorted(covering, key=lambda entry: entry["id"]):
        alike = {key: value for key, value in grant.items() if key not in _NOT_COMPARED}
        alike |= {key: sorted(set(grant[key])) for key in ("accounts", "regions")}
        patterns = [("groups", each) for each in grant.get("groups", []) if _any_match([each], asked.groups)]
        patterns += [("subjects", p) for p in grant.get("subjects", []) if matches(p, asked.subject)]
        for pattern in patterns:
            first.setdefault(json.dumps([pattern, alike], sort_keys=True), grant)
    return list({grant["id"]: grant for grant in first.values()}.values())


def _read(document: dict[str, Any]) -> _Asked:
    subject, action, resource, context = (
        document[key] for key in ("subject", "action", "resource", "context")
    )
    where = resource["properties"]
    return _Asked(
        context["stage"],
        action["name"],
        datetime.fromisoformat(context["time"]),
        subject["id"],
        subject["properties"]["groups"],
        subject["properties"]["via"],
        subject["properties"].get("claims", {}),
        action["properties"],
        where["account_id"],
        where["region"],
        where.get("cluster", ""),
        where if context["stage"] == "update" else {},
    )


def _result(explained: Iterable[tuple[str, str]], *, allow: bool = False) -> Result:
    told = list(explained)
    rules = sorted({rule for rule, _ in told if rule})
    reasons = sorted({reason[:MOST_CHARACTERS] for _, reason in told})
    return {"allow": allow, "rules": rules, "reasons": reasons[:MOST_EXPLAINED]}


def matches(pattern: str, value: str) -> bool:
    """Whether a pattern of the language matches: ``*`` is any run but ``/``, a final ``/**`` is the rest."""
    if pattern.endswith("/**"):
        return value.startswith(pattern[:-2])
    parts = "[^/]*".join(re.escape(part) for part in pattern.split("*"))
    return re.fullmatch(parts, value) is not None


def matches_ticket(pattern: str, ticket: str) -> bool:
    """As ``matches``, and ``#`` is one or more digits."""
    parts = re.escape(pattern).replace(r"\*", "[^/]*").replace(r"\#", "[0-9]+")
    return re.fullmatch(parts, ticket) is not None


def is_blank(text: str) -> bool:
    return not text.strip(_BLANK)


def _any_match(patterns: Iterable[str], values: Iterable[str]) -> bool:
    found = list(values)
    return any(matches(pattern, value) for pattern in patterns for value in found)


def _names_caller(entry: Entry, asked: _Asked, subjects: str = "subjects", groups: str = "groups") -> bool:
    return _any_match(entry.get(subjects, []), [asked.subject]) or _any_match(
        entry.get(groups, []), asked.groups
    )


def _names_target(entry: Entry, asked: _Asked) -> bool:
    """Accounts and regions are exact or the literal ``*``; absent, they are all."""
    return all(
        key not in entry or value in entry[key] or "*" in entry[key]
        for key, value in (("accounts", asked.account), ("regions", asked.region))
    )


def _names_cluster(entry: Entry, asked: _Asked) -> bool:
    named = "clusters" not in entry or _any_match(entry["clusters"], [asked.cluster])
    return named and not _any_match(entry.get("except_clusters", []), [asked.cluster])


def _covers(grant: Entry, asked: _Asked) -> bool:
    if not _names_target(grant, asked) or not _names_caller(grant, asked):
        return False
    return asked.action == "list" if asked.stage == "target" else _names_cluster(grant, asked)


def _forbids(denial: Entry, asked: _Asked) -> bool:
    if (
        not _names_target(denial, asked)
        or not _names_caller(denial, asked)
        or not _is_in_force(denial, asked)
    ):
        return False
    if asked.stage == "target":
        return "clusters" not in denial and "except_clusters" not in denial
    return _names_cluster(denial, asked)


def _is_in_force(entry: Entry, asked: _Asked) -> bool:
    return not list(_time_faults(entry, asked))


def _time_faults(entry: Entry, asked: _Asked) -> Iterator[str]:
    if "from" in entry and asked.time < datetime.fromisoformat(entry["from"]):
        yield f"begins at {entry['from']}."
    if "until" in entry and asked.time >= datetime.fromisoformat(entry["until"]):
        yield f"ended at {entry['until']}."


def _holds(freeze: Entry, asked: _Asked) -> bool:
    if (
        not _names_target(freeze, asked)
        or not _names_cluster(freeze, asked)
        or not _is_in_force(freeze, asked)
    ):
        return False
    if "windows" in freeze and not may_lie_inside(freeze["windows"], asked.time):
        return False
    if _names_caller(freeze, asked, "except_subjects", "except_groups"):
        return False
    if asked.stage != "update":
        return "tags" not in freeze and "update_types" not in freeze
    if asked.facts["update"]["type"] not in freeze.get("update_types", [asked.facts["update"]["type"]]):
        return False
    return all(asked.facts["tags"].get(key) in values for key, values in freeze.get("tags", {}).items())


def _freeze_reason(freeze: Entry) -> str:
    ends = f"until {freeze['until']}" if "until" in freeze and "windows" not in freeze else "now"
    return f"Freeze {freeze['id']} forbids cancel on this cluster {ends}."


def _faults(grant: Entry, asked: _Asked) -> Iterator[str]:
    """Why a grant with the action does not allow, as sentences for the caller."""
    name = grant["id"]
    yield from (f"Grant {name} {fault}" for fault in _time_faults(grant, asked))
    if "windows" in grant and not lie_inside(grant["windows"], asked.time):
        yield f"Grant {name} is outside its windows."
    if "via" in grant and not (asked.via is not None and _any_match(grant["via"], [asked.via])):
        yield f"Grant {name} asks for a connection that this call did not come over."
    for claim, patterns in grant.get("claims", {}).items():
        if not _any_match(patterns, asked.claims.get(claim, [])):
            yield f"Grant {name} asks for the token's claim {claim} to be {' or '.join(patterns)}."
    if asked.action == "cancel":
        yield from _unjustified(grant, asked)
    if asked.stage == "update":
        yield from (f"Grant {name} {fault}" for fault in _unfit_facts(grant, asked))


def _unjustified(grant: Entry, asked: _Asked) -> Iterator[str]:
    blank = {key for key, text in asked.given.items() if is_blank(text)}
    required = [key for key in grant.get("require", []) if key in blank]
    yield from (f"A {key} is required by grant {grant['id']}." for key in required)
    patterns, ticket = grant.get("ticket_patterns", []), asked.given["ticket"]
    if patterns and ("ticket" in blank or not any(matches_ticket(each, ticket) for each in patterns)):
        yield f"Grant {grant['id']} asks for a ticket like {' or '.join(patterns)}."


def _unfit_facts(grant: Entry, asked: _Asked) -> Iterator[str]:
    tags, update = asked.facts["tags"], asked.facts["update"]
    for key, values in grant.get("tags", {}).items():
        if tags.get(key) not in values:
            yield f"asks for the cluster's tag {key} to be {' or '.join(values)}."
    for key, form in grant.get("group_tags", {}).items():
        if not tags.get(key) or form.replace("*", tags[key]) not in asked.groups:
            yield f"asks for the cluster's tag {key} to name one of your groups."
    if "versions" in grant and not _any_match(grant["versions"], [asked.facts["version"]]):
        yield f"asks for the cluster's version to be {' or '.join(grant['versions'])}."
    if "older_than" in grant and not _is_older(update, grant["older_than"]):
        yield f"asks for an update that is older than {grant['older_than']}."
    if asked.action == "cancel" and update["type"] not in grant["update_types"]:
        yield f"allows cancel for updates of type {' or '.join(grant['update_types'])} only."


def _is_older(update: dict[str, Any], age: str) -> bool:
    seconds = int(age[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[age[-1]]
    return update["age_s"] is not None and update["age_s"] > seconds
