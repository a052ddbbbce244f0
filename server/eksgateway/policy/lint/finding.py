"""A finding, and how entries are walked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from eksgateway.policy.coverage import Entry
from eksgateway.policy.source.content import KINDS

Rule: TypeAlias = Literal[
    "impossible-caller",
    "impossible-group",
    "impossible-via",
    "star-in-issuer",
    "star-crosses-colon",
    "impossible-cluster",
    "impossible-version",
    "impossible-tag",
    "unknown-update-type",
    "no-effect",
    "over",
    "windows-never-come",
    "excludes-all",
    "excluded",
    "excludes-nothing",
    "undone-requirement",
    "redundant",
    "hidden",
    "unused-set",
    "unknown-issuer",
    "unknown-claim",
    "unknown-target",
    "not-compared",
]

SUBJECTS: Final = ("subjects", "except_subjects")
GROUPS: Final = ("groups", "except_groups")


@dataclass(frozen=True, slots=True)
class Finding:
    """``place`` is the key within the entry, ``text`` a sentence."""

    rule: Rule
    kind: str  # grant, denial or freeze
    entry: str  # its id
    place: str
    text: str

    def __str__(self) -> str:
        place = f", {self.place}" if self.place else ""
        return f"{self.kind} {self.entry}{place}: {self.text}"


@dataclass(frozen=True, slots=True)
class Named:
    """An entry with its kind, which makes findings about itself."""

    kind: str
    entry: Entry

    def make_finding(self, rule: Rule, place: str, text: str) -> Finding:
        return Finding(rule, self.kind, str(self.entry["id"]), place, text)

    def judge_items(self, rule: Rule, keys: Iterable[str], judge: Callable[[str], str]) -> Iterator[Finding]:
        """A finding for each item of these lists for which ``judge`` has a text."""
        for key in keys:
            for index, item in enumerate(self.entry.get(key, ())):
                if text := judge(item):
                    yield self.make_finding(rule, f"{key}[{index}]", text)


def entries_of(content: Mapping[str, Sequence[Entry]]) -> Iterator[Named]:
    for key, kind in KINDS.items():
        for entry in content[key]:
            yield Named(kind, entry)


def quote(texts: Iterable[str]) -> str:
    return ", ".join(f"`{text}`" for text in texts)
