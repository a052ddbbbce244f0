"""Generated data and questions for the policy. Each question matches a grant, or nearly does.

They come from a seeded Random, so that a failure can be repeated.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from eksgateway.model import Action, Caller, ClusterRef, Justification
from eksgateway.policy.question import Question, utc_seconds
from support.questions import at_request, at_update

Content = dict[str, Any]

_SUBJECTS = [
    "jwt:corp:alice",
    "jwt:corp:*",
    "jwt:*:bot",
    "spiffe://corp.example/ns/**",
    "spiffe://*/x",
    "jwt:é:*",
]
_GROUPS = ["corp:platform", "corp:*", "*:admins", "corp:a/**", "other:*-leads"]
_CLUSTERS = ["prod-1", "prod-*", "*-1", "*", "p*d", "a/**"]
_ACCOUNTS = ["111122223333", "444455556666"]
_REGIONS = ["us-east-1", "eu-central-1"]
_VIA = ["spiffe://corp.example/mesh/**", "spiffe://corp.example/edge"]
_TYPES = ["VersionRollback", "VersionUpdate", "AddonUpdate", "Neu/é"]
_TAGS = {"environment": ["production", "staging"], "team": ["a", "b", ""], "ключ": ["значение"]}
# Replacements of `*` and `/**`: a slash, nothing, and characters that are hard to encode.
_FILLS = ["", "1", "x-y", "a/b", "é", "\U0001f600", "\x00", "\n", '"\\', " ", "*", "/"]
_BLANKS = ["", " ", "\t\n\r\v\f", "\u00a0", "\u2003", "\u3000", "\x1f", "\u200b", "\x85"]
_SPAN = [datetime(2026, 11, 1, tzinfo=UTC) + timedelta(days=day) for day in range(0, 60, 6)]


def _some(random: Random, choices: list[str], most: int = 3) -> list[str]:
    return random.sample(choices, random.randint(1, min(most, len(choices))))


def _grant(random: Random, number: int) -> Content:
    grant: Content = {
        "id": f"grant-{number}",
        "actions": _some(random, [str(action) for action in Action], 5),
        "accounts": _some(random, _ACCOUNTS),
        "regions": _some(random, _REGIONS),
        "clusters": _some(random, _CLUSTERS),
        "update_types": _some(random, _TYPES),
    }
    if random.random() < 0.7:
        grant["actions"] = sorted({*grant["actions"], "cancel"})
    if random.random() < 0.5:
        grant["subjects"] = _some(random, _SUBJECTS)
    if "subjects" not in grant or random.random() < 0.5:
        grant["groups"] = _some(random, _GROUPS)
    if random.random() < 0.2:
        grant["via"] = _some(random, _VIA)
    if random.random() < 0.5:
        grant["require"] = _some(random, ["reason", "ticket"])
    if random.random() < 0.4:
        grant["tags"] = {key: _some(random, _TAGS[key]) for key in _some(random, list(_TAGS), 2)}
    return grant


def _freeze(random: Random, number: int) -> Content:
    first, last = sorted(random.sample(_SPAN, 2))
    freeze: Content = {
        "id": f"freeze-{number}",
        "clusters": _some(random, _CLUSTERS, 1),
        "from": utc_seconds(first),
        "until": utc_seconds(last),
    }
    for key, choices in {"accounts": _ACCOUNTS, "regions": _REGIONS, "except_groups": _GROUPS}.items():
        if random.random() < 0.3:
            freeze[key] = _some(random, choices, 1)
    return freeze


def contents(random: Random, count: int) -> Iterator[Content]:
    """Policy data."""
    for _ in range(count):
        yield {
            "grants": [_grant(random, index) for index in range(random.randint(1, 5))],
            "freezes": [_freeze(random, index) for index in range(random.choice([0, 0, 1, 1, 2]))],
        }


def questions(random: Random, content: Content, count: int) -> Iterator[Question]:
    """Questions that match a grant of ``content``, with up to two changes."""
    for _ in range(count):
        question = _fitting(random, random.choice(content["grants"]))
        for _ in range(random.choice([0, 0, 1, 1, 2])):
            question = _missing(random, question)
        yield question


def _text(random: Random, patterns: list[str]) -> str:
    """One of the patterns, its star replaced."""
    pattern = random.choice(patterns)
    if pattern.endswith("/**"):
        return pattern.removesuffix("**") + random.choice(_FILLS)
    return pattern.replace("*", random.choice(_FILLS))


def _fitting(random: Random, grant: Content) -> Question:
    subject = "jwt:corp:nobody"
    groups = ["corp:engineering"] if random.random() < 0.3 else []
    if "groups" in grant and ("subjects" not in grant or random.random() < 0.5):
        groups.append(_text(random, grant["groups"]))
    else:
        subject = _text(random, grant["subjects"])
    via = _text(random, grant["via"]) if "via" in grant else None
    actions = [action for action in Action if action in grant["actions"]]
    question = replace(
        at_request(
            Caller("spiffe" if subject.startswith("spiffe:") else "jwt", subject, "", tuple(groups), via)
        ),
        action=Action.CANCEL if random.random() < 0.6 else random.choice(actions),
        time=random.choice(_SPAN) + timedelta(seconds=random.choice([-1, 0, 0, 1, 3600])),
        cluster=ClusterRef(*(_text(random, grant[key]) for key in ("accounts", "regions", "clusters"))),
    )
    if random.random() < 0.4:
        return question
    if random.random() < 0.2:
        return replace(question, action=Action.LIST, any_cluster=True)
    wanted = {key: random.choice(values) for key, values in grant.get("tags", {}).items()}
    return at_update(question, _text(random, grant["update_types"]), **wanted)


def _missing(random: Random, question: Question) -> Question:
    """The question with one thing changed."""
    caller, cluster = question.caller, question.cluster
    changes: list[dict[str, Any]] = [
        {"caller": replace(caller, id=caller.id + random.choice(_FILLS))},
        {"caller": replace(caller, groups=tuple(group + random.choice(_FILLS) for group in caller.groups))},
        {"caller": replace(caller, groups=(*caller.groups, random.choice(_GROUPS)))},
        {"caller": replace(caller, via=random.choice([None, "spiffe://corp.example/mesh/x", "x"]))},
        {"action": random.choice(list(Action))},
        {"cluster": replace(cluster, name=cluster.name + random.choice(_FILLS))},
        {"cluster": replace(cluster, region=random.choice(_REGIONS))},
        {"justification": replace(question.justification, reason=random.choice(_BLANKS))},
        {"justification": replace(question.justification, ticket=random.choice(_BLANKS))},
        {"justification": Justification()},
        {"time": random.choice(_SPAN)},
    ]
    if question.update is not None and question.facts is not None:
        changes += [
            {"update": replace(question.update, type=random.choice(_TYPES))},
            {"facts": replace(question.facts, tags={**question.facts.tags, "environment": "lab"})},
            {"facts": replace(question.facts, tags={})},
        ]
    return replace(question, **random.choice(changes))
