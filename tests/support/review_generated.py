"""Generated policy data of few names, so that denials and freezes meet grants, and questions about it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from eksgateway.model import (
    Action,
    Caller,
    Claim,
    ClusterFacts,
    ClusterRef,
    Justification,
    Update,
)
from eksgateway.policy.question import Question, utc_seconds
from eksgateway.policy.review.cases import Facts
from eksgateway.policy.review.words import word_of

Entry = dict[str, Any]

TIMES = [
    datetime(2026, 12, 1, hour, tzinfo=UTC) + timedelta(days=day) for day in range(5) for hour in (3, 12)
]
SUBJECTS = ["jwt:corp:a", "jwt:corp:*", "jwt:corp:a*", "jwt:corp:a/**", "spiffe://d/a", "spiffe://d/**"]
GROUPS = ["corp:a", "corp:b", "corp:*", "corp:a*", "corp:a/**", "corp:*b"]
CLUSTERS = ["p-1", "p-*", "*", "*-1", "p-*-1", "p-pci-*", "a*1*", "a/**"]
ACCOUNTS = ["111122223333", "444455556666", "*"]
REGIONS = ["us-east-1", "eu-central-1", "*"]
TYPES = ["VersionRollback", "VersionUpdate"]
TAGS = {"env": ["prod", "dev"], "team": ["a", "b", "a/c"]}
WINDOWS = [
    {"days": ["tue", "wed"], "zone": "UTC"},
    {"from": "10:00", "until": "14:00", "zone": "Europe/Berlin"},
    {"from": "22:00", "until": "06:00", "zone": "UTC"},
]


def some(random: Random, choices: Sequence[Any], most: int = 2) -> list[Any]:
    return random.sample(choices, random.randint(1, min(most, len(choices))))


def maybe(random: Random, entry: Entry, key: str, value: Any, chance: float = 0.2) -> None:
    if random.random() < chance:
        entry[key] = value


def make_content(random: Random) -> dict[str, list[Entry]]:
    return {
        "grants": [_grant(random, f"g{number}") for number in range(random.randint(1, 4))],
        "denials": [_denial(random, f"d{number}") for number in range(random.choice([0, 1, 1, 2]))],
        "freezes": [_freeze(random, f"f{number}") for number in range(random.choice([0, 1, 2, 3]))],
    }


def _callers(random: Random, entry: Entry) -> None:
    if random.random() < 0.5:
        entry["subjects"] = some(random, SUBJECTS)
    if "subjects" not in entry or random.random() < 0.5:
        entry["groups"] = some(random, GROUPS)


def _times(random: Random, entry: Entry) -> None:
    first, last = sorted(random.sample(TIMES, 2))
    maybe(random, entry, "from", utc_seconds(first))
    maybe(random, entry, "until", utc_seconds(last))


def _grant(random: Random, name: str) -> Entry:
    actions = some(random, [str(action) for action in Action], 4)
    entry: Entry = {
        "id": name,
        "actions": actions if random.random() < 0.3 else sorted({*actions, "cancel"}),
        "accounts": some(random, ACCOUNTS),
        "regions": some(random, REGIONS),
        "clusters": some(random, CLUSTERS),
        "update_types": some(random, TYPES),
    }
    _callers(random, entry)
    _times(random, entry)
    maybe(random, entry, "except_clusters", some(random, CLUSTERS))
    maybe(random, entry, "windows", some(random, WINDOWS))
    maybe(random, entry, "via", some(random, ["spiffe://d/mesh/**", "spiffe://d/edge"]), 0.1)
    maybe(random, entry, "claims", {"ref": some(random, ["main", "release-*"])})
    maybe(random, entry, "tags", {key: some(random, TAGS[key]) for key in some(random, [*TAGS])}, 0.4)
    maybe(random, entry, "group_tags", {"team": "corp:*"})
    maybe(random, entry, "versions", some(random, ["1.31", "1.2*"]), 0.1)
    maybe(random, entry, "older_than", "2h", 0.1)
    maybe(random, entry, "require", some(random, ["reason", "ticket"]))
    maybe(random, entry, "ticket_patterns", ["OPS-#"], 0.1)
    return entry


def _denial(random: Random, name: str) -> Entry:
    entry: Entry = {"id": name, "reason": "Stopped."}
    _callers(random, entry)
    _times(random, entry)
    _places(random, entry)
    maybe(random, entry, "clusters", some(random, CLUSTERS), 0.4)
    return entry


def _freeze(random: Random, name: str) -> Entry:
    entry: Entry = {"id": name, "clusters": some(random, CLUSTERS)}
    if random.random() < 0.3:
        entry["windows"] = some(random, WINDOWS)
    else:
        first, last = sorted(random.sample(TIMES, 2))
        entry |= {"from": utc_seconds(first), "until": utc_seconds(last)}
    _places(random, entry)
    maybe(random, entry, "except_groups", some(random, GROUPS), 0.4)
    maybe(random, entry, "except_subjects", some(random, SUBJECTS), 0.3)
    maybe(random, entry, "tags", {key: some(random, TAGS[key]) for key in some(random, [*TAGS])}, 0.3)
    maybe(random, entry, "update_types", some(random, TYPES, 1))
    return entry


def _places(random: Random, entry: Entry) -> None:
    maybe(random, entry, "accounts", some(random, ACCOUNTS, 1))
    maybe(random, entry, "regions", some(random, REGIONS, 1))
    maybe(random, entry, "except_clusters", some(random, CLUSTERS), 0.3)


def make_question(random: Random, time: datetime) -> Question:
    """About what the data's names spell. A caller with a certificate has nothing of a token."""
    subject = _fill(random, random.choice(SUBJECTS))
    is_spiffe = subject.startswith("spiffe:")
    groups = () if is_spiffe else tuple({_fill(random, each) for each in some(random, GROUPS, 3)})
    claims = () if is_spiffe or random.random() < 0.3 else (Claim("ref", (random.choice(["main", "x"]),)),)
    via = (
        None if is_spiffe or random.random() < 0.5 else random.choice(["spiffe://d/mesh/a/b", "spiffe://d/x"])
    )
    caller = Caller("spiffe" if is_spiffe else "jwt", subject, "", groups, via, claims=claims)
    cluster = ClusterRef(
        random.choice(["111122223333", "444455556666", "777788889999"]),
        random.choice(["us-east-1", "eu-central-1", "ap-south-1"]),
        _fill(random, random.choice(CLUSTERS), "1", "pci-1", "x", ""),
    )
    action = Action.CANCEL if random.random() < 0.6 else random.choice([*Action])
    why = Justification("bad AMI", "OPS-12")
    question = Question(caller, action, cluster, "", "d", time, why)
    tags = {key: random.choice([*values, "other"]) for key, values in TAGS.items() if random.random() < 0.8}
    version = random.choice(["1.31", "1.29", "1.34"])
    return with_facts(question, random.choice(TYPES), tags, version)


def with_facts(question: Question, kind: str, tags: dict[str, str], version: str) -> Question:
    """At the stage at which the action is decided in the end."""
    if question.action is Action.LIST:
        return question
    update = Update("u", "InProgress", kind, created_at=question.time - timedelta(hours=3))
    return replace(question, facts=ClusterFacts("arn", "c", "ACTIVE", version, tags), update=update)


def question_of(facts: Facts, grant: Any, action: str, time: datetime) -> Question:
    """An example of a review, with what the grant asks for."""
    is_spiffe = facts.subject.startswith("spiffe:")
    claims = tuple(Claim(name, (word_of(values[0]),)) for name, values in grant.get("claims", {}).items())
    via = word_of(grant["via"][0]) if "via" in grant else None
    ticket = re.sub("#", "7", grant.get("ticket_patterns", ["T-1"])[0])
    question = Question(
        Caller("spiffe" if is_spiffe else "jwt", facts.subject, "", tuple(facts.groups), via, claims=claims),
        Action(action),
        ClusterRef(facts.account, facts.region, facts.cluster),
        "",
        "d",
        time,
        Justification("bad AMI", ticket),
    )
    version = word_of(grant.get("versions", ["1.34"])[0])
    return with_facts(question, facts.update_type, dict(facts.tags), version)


def _fill(random: Random, pattern: str, *fills: str) -> str:
    text = random.choice(fills or ("", "a", "b", "a/c", "x"))
    return pattern.replace("**", text).replace("*", random.choice(fills or ("", "a", "b", "x")))
