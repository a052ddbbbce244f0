"""Reads the situations of docs/policy.md: policy data, and calls with their answers.

A caller and a call are written as words and texts in code: `` `cancel` on `prod-1` at `2026-…` ``. The word
before a text names it, and further texts without a word have the same name.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from eksgateway.model import Action, Caller, Claim, ClusterFacts, ClusterRef, Justification, Update
from eksgateway.policy.question import Question

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "policy.md"
ALLOWED: Final = "allowed"
_METHOD: Final = "/eksgateway.v1.UpdateService/CancelUpdate"
_DEFAULTS: Final = {
    "account": "111122223333",
    "region": "us-east-1",
    "at": "2026-12-01T12:00:00Z",
    "type": "VersionRollback",
    "version": "1.33",
    "reason": "bad AMI",
    "ticket": "",
    "age": "3600",
}
_CALLER_WORDS: Final = {"", "in", "with", "over"}
_CALL_WORDS: Final = {"", "on", "tagged", *_DEFAULTS}
_TEXT: Final = re.compile(r"(?:(\w+) )?`([^`]+)`")
_BLOCK: Final = re.compile(r"```yaml\n(.*?)```", re.DOTALL)


@dataclass(frozen=True)
class Call:
    """``at_request`` and ``at_update`` are the questions that a gateway asks about it, in this order."""

    text: str
    at_request: Question
    at_update: Question
    answer: str


@dataclass(frozen=True)
class Situation:
    """``files`` are policy data by the file's name."""

    title: str
    files: dict[str, str]
    calls: tuple[Call, ...]


def read_situations(page: Path = PAGE) -> list[Situation]:
    _, *sections = re.split(
        r"^### (.*)\n", page.read_text().partition("## Situations")[2], flags=re.MULTILINE
    )
    return [_read_situation(title, text) for title, text in zip(sections[::2], sections[1::2], strict=True)]


def _read_situation(title: str, text: str) -> Situation:
    text = re.split(r"^## ", text, maxsplit=1, flags=re.MULTILINE)[0]
    files = {}
    for number, block in enumerate(_BLOCK.findall(text)):
        named = re.match(r"# (\S+\.yaml)\n", block)
        files[named[1] if named else f"data-{number}.yaml"] = block
    return Situation(title, files, tuple(_read_calls(text)))


def _read_calls(text: str) -> Iterator[Call]:
    who = call = ""
    for line in text.splitlines():
        if line.startswith("| ") and not line.startswith("| caller "):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            who, call, answer = cells[0] or who, cells[1] or call, cells[2]
            yield _read_call(who, call, answer)


def _read_call(who: str, call: str, answer: str) -> Call:
    given = _read_words(call, _CALL_WORDS)
    values = {name: given[name][0] if name in given else default for name, default in _DEFAULTS.items()}
    time = datetime.fromisoformat(values["at"])
    cluster = ClusterRef(values["account"], values["region"], given["on"][0])
    at_request = Question(
        caller=_read_caller(who),
        action=Action(given[""][0]),
        cluster=cluster,
        method=_METHOD,
        decision_id="d-1",
        time=time,
        justification=Justification(values["reason"], values["ticket"]),
    )
    created_at = time - timedelta(seconds=int(values["age"]))
    tags = dict(tag.split("=", 1) for tag in given["tagged"])
    arn = f"arn:aws:eks:{cluster.region}:{cluster.account_id}:cluster/{cluster.name}"
    at_update = replace(
        at_request,
        facts=ClusterFacts(arn, cluster.name, "ACTIVE", values["version"], tags),
        update=Update("u-1", "InProgress", values["type"], created_at=created_at),
    )
    return Call(f"{who}: {call}", at_request, at_update, answer)


def _read_caller(text: str) -> Caller:
    given = _read_words(text, _CALLER_WORDS)
    claims: dict[str, list[str]] = defaultdict(list)
    for claim in given["with"]:
        name, _, value = claim.partition("=")
        claims[name].append(value)
    (subject,) = given[""]
    kind, issuer = (
        ("spiffe", "corp.example") if subject.startswith("spiffe:") else ("jwt", "https://idp.example")
    )
    return Caller(
        type=kind,
        id=subject,
        issuer=issuer,
        groups=tuple(given["in"]),
        via=given["over"][0] if given["over"] else None,
        claims=tuple(Claim(name, tuple(values)) for name, values in sorted(claims.items())),
    )


def _read_words(text: str, known: set[str]) -> dict[str, list[str]]:
    words: dict[str, list[str]] = defaultdict(list)
    name = ""
    for found in _TEXT.finditer(text):
        name = found[1] if found[1] is not None else name
        assert name in known, f"{name}: is no word of the table's cells: {text}"
        words[name].append(found[2])
    return words
