"""Parses, checks and merges the files of the policy data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eksgateway.policy.source.checks import PlacedEntry, check_entries
from eksgateway.policy.source.content import KINDS, Content
from eksgateway.policy.source.faults import Faults, PolicyDataError
from eksgateway.policy.source.files import SourceFile, read_sources, show_name
from eksgateway.policy.source.schema import document_check, join
from eksgateway.policy.source.sets import NamedSet, SetResolver
from eksgateway.strict_json import read_json
from eksgateway.strict_yaml import read_yaml


def load_content(path: Path) -> Content:
    """The content of a file (JSON if its suffix is .json, else YAML) or of the files in a folder.

    Raises PolicyDataError. Blocks.
    """
    return parse_sources(read_sources(path))


def parse_sources(sources: Sequence[SourceFile]) -> Content:
    """The content of one file, or of all files of a folder. Raises PolicyDataError."""
    return parse_with_sets(sources)[0]


def parse_with_sets(sources: Sequence[SourceFile]) -> tuple[Content, list[str]]:
    """The content, and the places of sets that no list names. Raises PolicyDataError."""
    faults = Faults()
    documents = []
    for source in sources:
        own = Faults()
        prefix = f"{show_name(source.path.name)}: " if len(sources) > 1 else ""
        try:
            value = _parse(source)
        except ValueError as exc:
            own.add_line(str(exc))
        else:
            document_check()(value, "", own)
            documents.append(_Document(prefix, value))
        faults.merge(own, prefix)
    # Names of sets are not looked up if a file with sets may be missing.
    content, resolver = _merge(documents if len(documents) == len(sources) else [], faults)
    if faults.count:
        path = sources[0].path
        raise PolicyDataError(str(path if len(sources) == 1 else path.parent), faults.lines())
    return content, [named.place for named in resolver.find_unused()]


def _parse(source: SourceFile) -> Any:
    try:
        text = source.raw.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise ValueError(f"is not UTF-8 (byte {exc.start + 1})") from exc
    value = read_json(text) if source.path.suffix.lower() == ".json" else read_yaml(text)
    if "\\ud" in text.lower():  # an escape of half a character, which cannot be written as UTF-8
        try:
            _check_encodable(value)
        except RecursionError as exc:  # JSON
            raise ValueError("is nested too deep") from exc
    return value


def _check_encodable(value: Any) -> None:
    match value:
        case str():
            try:
                value.encode()
            except UnicodeEncodeError as exc:
                raise ValueError(f"{value!r:.80} has an escape that is no character") from exc
        case dict():
            _check_encodable([*value, *value.values()])
        case list():
            for each in value:
                _check_encodable(each)


@dataclass(frozen=True, slots=True)
class _Document:
    prefix: str  # of a path in it
    value: Any

    def part(self, key: str) -> Any:
        return self._content().get(key)

    def has(self, key: str) -> bool:
        return key in self._content()

    def entries(self, kind: str) -> Iterator[PlacedEntry]:
        values = self.part(kind)
        for index, value in enumerate(values if isinstance(values, list) else ()):
            if isinstance(value, dict):
                yield PlacedEntry(f"{self.prefix}eksgateway.{kind}[{index}]", kind, value)

    def _content(self) -> dict[str, Any]:
        content = self.value.get("eksgateway") if isinstance(self.value, dict) else None
        return content if isinstance(content, dict) else {}


def _merge(documents: list[_Document], faults: Faults) -> tuple[Content, SetResolver]:
    """The lists joined, without sets. The documents need not fit the schema."""
    if not faults.count and not any(document.has("grants") for document in documents):
        faults.add("eksgateway.grants", "is missing")
    resolver = SetResolver(_merge_sets(documents, faults), faults)
    content: Content = {}
    entries = []
    for kind in KINDS:
        own = [each for document in documents for each in document.entries(kind)]
        content[kind] = [resolver.resolve(each.place, kind, each.value) for each in own]
        entries += own
    check_entries(entries, faults)
    return content, resolver


def _merge_sets(documents: list[_Document], faults: Faults) -> dict[str, NamedSet]:
    sets: dict[str, NamedSet] = {}
    for document in documents:
        own = document.part("sets")
        for name, items in own.items() if isinstance(own, dict) else ():
            place = join(f"{document.prefix}eksgateway.sets", name)
            if name in sets:
                faults.add(place, f"is defined by {sets[name].place} already")
            else:
                sets[name] = NamedSet(place, items if isinstance(items, list) else [])
    return sets
