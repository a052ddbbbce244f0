"""Generated content of the policy data, in the whole language: grants, denials and freezes.

It comes from a seeded Random, so that a failure can be repeated. ``policy_questions`` has the questions.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from eksgateway.model import Action
from eksgateway.policy.compiler import compile_content
from eksgateway.policy.engine import PolicyTooLarge
from eksgateway.policy.question import utc_seconds
from support.policy_reference_windows import DAYS

Entry = dict[str, Any]
Content = dict[str, list[Entry]]

SUBJECTS = [
    "jwt:corp:alice",
    "jwt:corp:*",
    "jwt:*:bot",
    "jwt:*:*-bot",
    "spiffe://corp.example/ns/**",
    "spiffe://*/x",
    "spiffe://*/ns/*",
    "jwt:é:*",
]
# A JWT issuer called "jwt" can spell a group like a subject.
GROUPS = ["corp:platform", "corp:*", "*:admins", "corp:a/**", "*:*-leads", "jwt:corp:alice", "corp:a*a*a"]
CLUSTERS = ["prod-1", "prod-*", "*-1", "*", "p*d", "a/**", "*-pci-*", "p*-*1", "b*b*b"]
ACCOUNTS = ["111122223333", "444455556666", "777788889999"]
REGIONS = ["us-east-1", "eu-central-1", "ap-south-1"]
VIA = ["spiffe://corp.example/mesh/**", "spiffe://corp.example/edge", "spiffe://*/mesh-*"]
TYPES = ["VersionRollback", "VersionUpdate", "AddonUpdate", "Neu/é"]
TAGS = {"environment": ["production", "staging"], "team": ["a", "b", "a-leads"], "ключ": ["значение"]}
GROUP_TAGS = ["corp:*", "corp:*-admins", "corp:a/*"]
CLAIMS = {"repository": ["corp/app", "corp/*"], "ref": ["refs/heads/main", "refs/tags/*", "refs/**"]}
VERSIONS = ["1.31", "1.2*", "*", "1.*.*"]
AGES = ["1s", "90s", "30m", "2h", "1d"]
TICKETS = ["OPS-#", "OPS-7", "https://tickets.corp.example/browse/*", "#", "INC-#-x"]
# Zones with half hours, changes at midnight, changes by the moon, and none.
ZONES = [
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Africa/Casablanca",
    "America/St_Johns",
    "America/Santiago",
    "Asia/Kolkata",
    "UTC",
]
FIRST = datetime(2026, 10, 1, tzinfo=UTC)
_TIMES = ["00:00", "01:00", "01:30", "02:00", "02:30", "03:00", "06:00", "12:00", "18:15", "22:00", "23:59"]
# Ids that the compiled form could use for something else.
_IDS = ["c0", "s0", "p0", "w0", "0", "2026", "2026-11", "exact", "form", "revision", "constructor"]


def some(random: Random, choices: list[str], most: int = 3) -> list[str]:
    return random.sample(choices, random.randint(1, min(most, len(choices))))


def contents(random: Random, count: int) -> Iterator[Content]:
    """Content that is not too wide to be compiled."""
    while count:
        content = _content(random)
        with contextlib.suppress(PolicyTooLarge):
            compile_content(content)
            count -= 1
            yield content


def _content(random: Random) -> Content:
    names = [*_IDS, *(f"entry-{number}" for number in range(40))]
    random.shuffle(names)
    content: Content = {
        "grants": [grant(random, names.pop()) for _ in range(random.randint(1, 6))],
        "denials": [denial(random, names.pop()) for _ in range(random.choice([0, 0, 0, 1, 2]))],
        "freezes": [freeze(random, names.pop()) for _ in range(random.choice([0, 1, 1, 2, 4]))],
    }
    if random.random() < 0.1:
        _widen(random, content)
    return content


def _widen(random: Random, content: Content) -> None:
    """Give one grant more patterns than a decision walks through."""
    wide = random.choice(content["grants"])
    wide["groups"] = [f"corp:team-{number}" for number in range(30)]
    wide["clusters"] = [*wide["clusters"], *(f"*-c{number}" for number in range(30))]


def grant(random: Random, name: str) -> Entry:
    entry: Entry = {
        "id": name,
        "actions": some(random, [str(action) for action in Action], 5),
        "accounts": _everywhere(random, ACCOUNTS),
        "regions": _everywhere(random, REGIONS),
        "clusters": some(random, CLUSTERS),
    }
    if random.random() < 0.7:
        entry["actions"] = sorted({*entry["actions"], "cancel"})
    if "cancel" in entry["actions"] or random.random() < 0.3:
        entry["update_types"] = some(random, TYPES)
    entry |= _callers(random)
    for key, make in CONDITIONS.items():
        if random.random() < 0.17:
            entry[key] = make(random)
    return entry | _span(random, 0.15) | _remarks(random)


def denial(random: Random, name: str) -> Entry:
    entry = {"id": name, "reason": random.choice(["Compromised, see INC-7.", "é \U0001f600", "x" * 300])}
    return entry | _callers(random) | _place(random, 0.4) | _span(random, 0.3) | _remarks(random)


def freeze(random: Random, name: str) -> Entry:
    entry: Entry = {"id": name, "clusters": random.choice([["*"], some(random, CLUSTERS)])} | _place(
        random, 0.2
    )
    if random.random() < 0.4:
        entry |= {"windows": _windows(random)} | _span(random, 0.3)
    else:
        entry |= _span(random, 1)
    for key, make in (
        ("except_groups", lambda: some(random, GROUPS, 2)),
        ("except_subjects", lambda: some(random, SUBJECTS, 2)),
        ("tags", lambda: _tags(random)),
        ("update_types", lambda: some(random, TYPES, 2)),
    ):
        if random.random() < 0.2:
            entry[key] = make()
    return entry | _remarks(random)


def _callers(random: Random) -> Entry:
    entry: Entry = {}
    if random.random() < 0.5:
        entry["subjects"] = some(random, SUBJECTS)
    if not entry or random.random() < 0.5:
        entry["groups"] = some(random, GROUPS)
    return entry


def _everywhere(random: Random, choices: list[str]) -> list[str]:
    return ["*"] if random.random() < 0.2 else some(random, choices)


def _place(random: Random, chance: float) -> Entry:
    """Each key with this chance. Absent, it means everywhere."""
    place = {
        "accounts": _everywhere(random, ACCOUNTS),
        "regions": _everywhere(random, REGIONS),
        "clusters": some(random, CLUSTERS, 2),
        "except_clusters": some(random, CLUSTERS, 2),
    }
    return {key: value for key, value in place.items() if random.random() < chance}


def _span(random: Random, chance: float) -> Entry:
    """``from`` and ``until``, each with this chance."""
    first = FIRST + timedelta(days=random.randint(0, 120), seconds=random.choice([0, 0, 0, 1, 3600, 86_399]))
    length = random.choice(
        [timedelta(seconds=1), timedelta(hours=5), timedelta(days=33), timedelta(days=800)]
    )
    span = {"from": utc_seconds(first), "until": utc_seconds(first + length)}
    return {key: value for key, value in span.items() if random.random() < chance}


def _windows(random: Random) -> list[Entry]:
    return [_window(random) for _ in range(random.choice([1, 1, 2, 3]))]


def _window(random: Random) -> Entry:
    window: Entry = {"zone": random.choice(ZONES)}
    if random.random() < 0.7:
        window["days"] = some(random, [*DAYS], 6)
    if random.random() < 0.85:
        window["from"] = random.choice(_TIMES)
        window["until"] = random.choice([*_TIMES, "24:00"])
    return window


def _tags(random: Random) -> Entry:
    return {key: some(random, TAGS[key]) for key in some(random, list(TAGS), 2)}


def _remarks(random: Random) -> Entry:
    remarks = {"owner": "team-platform", "note": "why"}
    return {key: value for key, value in remarks.items() if random.random() < 0.2}


# Each makes a grant's conditions or exceptions. A grant with one more allows no more.
CONDITIONS: dict[str, Callable[[Random], Any]] = {
    "except_clusters": lambda random: some(random, CLUSTERS, 2),
    "via": lambda random: some(random, VIA),
    "claims": lambda random: {name: some(random, CLAIMS[name]) for name in some(random, [*CLAIMS])},
    "windows": _windows,
    "tags": _tags,
    "group_tags": lambda random: {key: random.choice(GROUP_TAGS) for key in some(random, [*TAGS], 2)},
    "versions": lambda random: some(random, VERSIONS, 2),
    "older_than": lambda random: random.choice(AGES),
    "require": lambda random: some(random, ["reason", "ticket"]),
    "ticket_patterns": lambda random: some(random, TICKETS),
}
