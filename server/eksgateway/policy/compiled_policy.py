"""Policy data as gateways load it, made from the operators' files.

A gateway keeps it as bytes, because parsing it would hold up the event loop.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias

from eksgateway.policy.compiler import compile_content
from eksgateway.policy.compiler.conditions import parse_duration
from eksgateway.policy.cost_questions import make_questions
from eksgateway.policy.edges import Edges, read_edges
from eksgateway.policy.engine import PolicyLoadError
from eksgateway.policy.source import Content, SourceFile, count_entries, parse_sources
from eksgateway.policy.source.content import KINDS

_HASH_BYTES: Final = 16
_MIN_RULES: Final = timedelta(days=180)

Changes: TypeAlias = dict[str, list[str]]  # e.g. {"grants_added": [ids]}


@dataclass(frozen=True, slots=True)
class CompiledPolicy:
    """``data`` is what both engines read (JSON), and ``revision`` a hash of it.

    ``digests`` has a line ``KIND HASH ID`` for each entry, hashed with its sets resolved. ``questions`` has
    a line for each question of ``cost_questions``. ``edges`` is JSON. ``ages`` are those that grants demand
    of updates, in seconds, ascending.
    """

    data: bytes
    digests: bytes
    edges: bytes
    questions: bytes
    revision: str
    counts: str  # as in ``3 grants, 1 freeze``
    ages: list[int]
    rules_end: int | None  # the POSIX second until which windows can be decided, if there are any

    def read_edges(self) -> Edges:
        return read_edges(json.loads(self.edges))

    def check_rules(self, now: datetime) -> None:
        """Raise PolicyLoadError if there are windows, and the compiled rules of their zones end soon."""
        if self.rules_end is None:
            return
        ends = datetime.fromtimestamp(self.rules_end, UTC)
        if ends - now < _MIN_RULES:
            raise PolicyLoadError(
                f"the windows need the rules of their time zones for {_MIN_RULES.days} days ahead, and those"
                f" of this version of eksgateway end at {ends:%Y-%m-%dT%H:%M:%SZ}: install a newer version"
            )


def compile_policy(sources: tuple[SourceFile, ...]) -> CompiledPolicy:
    """Pure, and takes seconds for large sources. Raises PolicyLoadError."""
    return build_policy(parse_sources(sources))


def build_policy(content: Content) -> CompiledPolicy:
    """Raises PolicyTooLarge."""
    document = compile_content(content)
    index = document["eksgateway"]["index"]
    return CompiledPolicy(
        data=_to_json(document),
        digests=_digest(content),
        edges=_to_json(index["edges"]),
        questions=b"\n".join(map(_to_json, make_questions(content))),
        revision=index["revision"],
        counts=count_entries(content),
        ages=sorted(
            {parse_duration(grant["older_than"]) for grant in content["grants"] if "older_than" in grant}
        ),
        rules_end=index["rules"]["until"] if index["zones"].keys() - {""} else None,
    )


def find_changes(before: CompiledPolicy, after: CompiledPolicy) -> Changes:
    """The ids of the entries that were added, removed or changed, in the order of the data."""
    old, new = before.digests.splitlines(), after.digests.splitlines()
    common = set(old).intersection(new)
    removed, added = _read_digests(old, common), _read_digests(new, common)
    changes = {}
    for kind in KINDS:
        gone, come = removed.get(kind, {}), added.get(kind, {})
        changes[f"{kind}_added"] = [name for name in come if name not in gone]
        changes[f"{kind}_removed"] = [name for name in gone if name not in come]
        changes[f"{kind}_changed"] = [name for name in come if name in gone]
    return {change: names for change, names in changes.items() if names}


def _digest(content: Content) -> bytes:
    lines = []
    for kind in KINDS:
        for entry in content[kind]:
            text = json.dumps(entry, sort_keys=True).encode()
            lines.append(f"{kind} {hashlib.blake2b(text, digest_size=_HASH_BYTES).hexdigest()} {entry['id']}")
    return "\n".join(lines).encode()


def _read_digests(lines: Iterable[bytes], known: set[bytes]) -> dict[str, dict[str, None]]:
    """The ids by kind, except those of known lines."""
    found: dict[str, dict[str, None]] = {}
    for line in lines:
        if line not in known:
            kind, _, name = line.decode().split(" ", 2)
            found.setdefault(kind, {})[name] = None
    return found


def _to_json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
