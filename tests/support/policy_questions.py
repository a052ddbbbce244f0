"""Generated questions about content: each matches a grant, denial or freeze of it, or nearly does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

from eksgateway.model import Action, Caller, Claim, ClusterRef, Justification
from eksgateway.policy.question import Question
from support.policy_generated import (
    ACCOUNTS,
    CLAIMS,
    CLUSTERS,
    FIRST,
    GROUPS,
    REGIONS,
    SUBJECTS,
    TAGS,
    TYPES,
    VIA,
    Content,
    Entry,
    some,
)
from support.questions import at_request, at_update

# Replacements of stars: a slash, nothing, characters that are hard to encode, and more stars.
_PLAIN = ["1", "a", "b", "x", "x-y", "-pci-"]
_FILLS = ["", "1", "x-y", "a/b", "é", "\U0001f600", "\x00", "\n", '"\\', " ", "*", "/"]
_BLANKS = ["", " ", "\t\n\r\v\f", "\u00a0", "\u2003", "\u3000", "\x1f", "\u200b", "\x85"]
_TICKETS = [
    "OPS-7",
    "OPS-",
    "OPS-12x",
    "OPS-٣",
    "7",
    "INC-12-x",
    "INC--x",
    "https://tickets.corp.example/browse/A-1",
]
_VERSIONS = ["1.31", "1.20", "1.2", "1.31.4", "", "1/2"]
_AGES = [0, 1, 2, 90, 91, 1800, 1801, 7200, 7201, 86_400, 86_401, None]
# Names that the compiled form could use for something else.
_NAMES = ["", "*", "exact", "s0", "p0", "c0", "constructor"]
_SECOND = timedelta(seconds=1)


def questions(random: Random, content: Content, count: int) -> Iterator[Question]:
    """Questions that match an entry of ``content``, with up to two changes."""
    entries = [entry for kind in ("grants", "grants", "denials", "freezes") for entry in content[kind]]
    for _ in range(count):
        question = _fitting(random, random.choice(content["grants"]), random.choice(entries))
        for _ in range(random.choice([0, 0, 1, 1, 2])):
            question = replace(question, **_change(random, question))
        yield question


def _text(random: Random, patterns: list[str]) -> str:
    """A text that matches one of the patterns, or nearly does."""
    pattern = random.choice(patterns)
    fills = _PLAIN if random.random() < 0.8 else _FILLS
    head, deep, _ = pattern.partition("/**")
    if deep:
        return f"{head}/{random.choice(fills)}"
    return "".join(random.choice(fills) if part == "*" else part for part in pattern)


def _exact(random: Random, listed: list[str], known: list[str]) -> str:
    """An account or region of the list, in which ``*`` is any."""
    return random.choice(known if "*" in listed else listed)


def _fitting(random: Random, grant: Entry, entry: Entry) -> Question:
    """A question about a grant, at a place and time of another entry for half of its members."""
    mixed = {**grant, **{key: value for key, value in entry.items() if random.random() < 0.3}}
    actions = [action for action in Action if action in grant["actions"]]
    question = replace(
        at_request(_caller(random, mixed)),
        action=Action.CANCEL if random.random() < 0.6 else random.choice(actions),
        time=_time(random, random.choice([grant, entry])),
        cluster=ClusterRef(
            _exact(random, mixed["accounts"], ACCOUNTS),
            _exact(random, mixed["regions"], REGIONS),
            _text(random, mixed["clusters"]),
        ),
        justification=Justification("bad AMI", _ticket(random, grant)),
    )
    if random.random() < 0.35:
        return question
    if random.random() < 0.15:
        return replace(question, action=Action.LIST, any_cluster=True)
    return _with_facts(random, question, mixed)


def _caller(random: Random, entry: Entry) -> Caller:
    subject = _text(random, entry.get("subjects", ["jwt:corp:nobody"]))
    groups = [_text(random, entry["groups"])] if "groups" in entry else []
    groups += [_text(random, [form]) for form in entry.get("group_tags", {}).values()]
    groups += (
        some(random, ["corp:a", "corp:b", "corp:b-admins", "corp:a/b", "corp:a-leads"], 2)
        if random.random() < 0.3
        else []
    )
    if random.random() < 0.05:
        groups += [f"corp:team-{number}" for number in range(60)]
    via = _text(random, entry["via"]) if "via" in entry else None
    kind = "spiffe" if subject.startswith("spiffe:") else "jwt"
    claims = [_claim(random, name, patterns) for name, patterns in entry.get("claims", {}).items()]
    return Caller(kind, subject, "", tuple(groups), via, claims=tuple(claims))


def _claim(random: Random, name: str, patterns: list[str]) -> Claim:
    return Claim(name, tuple(_text(random, [pattern]) for pattern in some(random, patterns)))


def _ticket(random: Random, grant: Entry) -> str:
    pattern = random.choice([*grant.get("ticket_patterns", []), "OPS-12"])
    digits = random.choice(["7", "12", "00000"])
    return _text(random, [pattern.replace("#", digits)]) if random.random() < 0.8 else random.choice(_TICKETS)


def _with_facts(random: Random, question: Question, entry: Entry) -> Question:
    tags = {key: random.choice(values) for key, values in entry.get("tags", {}).items()}
    for key in entry.get("group_tags", {}):
        named = [group.removeprefix("corp:").removesuffix("-admins") for group in question.caller.groups]
        tags[key] = random.choice([*named, "", "a"])
    question = at_update(question, random.choice(entry.get("update_types", TYPES)), **tags)
    assert question.update is not None
    assert question.facts is not None
    age = random.choice(_AGES)
    created_at = None if age is None else question.time - timedelta(seconds=age)
    version = _text(random, entry["versions"]) if "versions" in entry else random.choice(_VERSIONS)
    return replace(
        question,
        facts=replace(question.facts, version=version),
        update=replace(question.update, created_at=created_at),
    )


def _time(random: Random, entry: Entry) -> datetime:
    """A time at or beside an edge of the entry, or on an odd night of its zone, or any."""
    near = [datetime.fromisoformat(entry[key]) for key in ("from", "until") if key in entry]
    near += [_window_edge(random, window) for window in entry.get("windows", ())]
    near += [random.choice(_clock_changes(window["zone"])) for window in entry.get("windows", ())]
    if near and random.random() < 0.85:
        time = random.choice(near)
        time += random.choice([-1, 0, 0, 1]) * timedelta(hours=1) + random.choice([-1, 0, 0, 1]) * _SECOND
        return time + random.choice([0, 0, 0, 30, -30, 90]) * timedelta(minutes=1)
    return FIRST + timedelta(days=random.randint(-30, 900), seconds=random.randint(0, 86_399))


def _window_edge(random: Random, window: Entry) -> datetime:
    hour, minute = map(int, window.get(random.choice(["from", "until"]), "00:00").split(":"))
    day = datetime(2026, 10, 1, tzinfo=ZoneInfo(window["zone"])) + timedelta(days=random.randint(0, 200))
    local = day.replace(hour=hour % 24, minute=minute, fold=random.choice([0, 1]))
    return local.astimezone(UTC)


@cache
def _clock_changes(zone: str) -> list[datetime]:
    """The zone's clock changes in 800 days, or one time if there is none."""
    hours = [FIRST + timedelta(hours=number) for number in range(800 * 24)]
    offsets = [hour.astimezone(ZoneInfo(zone)).utcoffset() for hour in hours]
    return [hours[n] for n in range(1, len(hours)) if offsets[n] != offsets[n - 1]] or [FIRST]


def _change(random: Random, question: Question) -> dict[str, Any]:
    """One member of the question, changed."""
    caller, cluster, why = question.caller, question.cluster, question.justification
    odd = random.choice(_NAMES)
    changes: list[dict[str, Any]] = [
        {"caller": replace(caller, id=random.choice([caller.id + random.choice(_FILLS), odd]))},
        {"caller": replace(caller, groups=tuple(group + random.choice(_FILLS) for group in caller.groups))},
        {"caller": replace(caller, groups=(*caller.groups, _text(random, GROUPS), odd))},
        {"caller": replace(caller, groups=())},
        {"caller": replace(caller, id=_text(random, SUBJECTS))},
        {"caller": replace(caller, via=random.choice([None, _text(random, VIA), "x", ""]))},
        {
            "caller": replace(
                caller, claims=tuple(_claim(random, n, CLAIMS[n]) for n in some(random, [*CLAIMS]))
            )
        },
        {
            "caller": replace(
                caller, claims=random.choice([(), (Claim("ref", ()),), (Claim("", ("refs/heads/main",)),)])
            )
        },
        {"action": random.choice(list(Action))},
        {"cluster": replace(cluster, name=random.choice([cluster.name + random.choice(_FILLS), odd]))},
        {"cluster": replace(cluster, name=_text(random, CLUSTERS))},
        {"cluster": replace(cluster, region=random.choice([*REGIONS, odd]))},
        {"cluster": replace(cluster, account_id=random.choice([*ACCOUNTS, odd]))},
        {"justification": replace(why, reason=random.choice(_BLANKS))},
        {"justification": replace(why, ticket=random.choice([*_BLANKS, *_TICKETS]))},
        {"time": question.time + random.choice([-1, 1]) * _SECOND},
    ]
    if question.update is not None and question.facts is not None:
        tag = random.choice(list(TAGS))
        value = random.choice([*TAGS[tag], "", "lab", "*", "a/b"])
        changes += [
            {"update": replace(question.update, type=random.choice(TYPES))},
            {"facts": replace(question.facts, version=random.choice(_VERSIONS))},
            {"facts": replace(question.facts, tags={**question.facts.tags, tag: value})},
            {"facts": replace(question.facts, tags={})},
        ]
    return random.choice(changes)
