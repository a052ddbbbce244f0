"""Parses, checks and merges the files of the policy data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eksgateway.policy.source.checks import Entry, find_entry_faults
from eksgateway.policy.source.content import KINDS, Content
from eksgateway.policy.source.faults import PolicyDataError
from eksgateway.policy.source.files import SourceFile, read_sources
from eksgateway.policy.source.schema import document_check, step
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
    faults: list[str] = []
    documents = []
    for source in sources:
        prefix = f"{source.path.name}: " if len(sources) > 1 else ""
        try:
            value = _parse(source)
        except ValueError as exc:
            faults.append(f"{prefix}{exc}")
            continue
        found = document_check()(value)
        faults += [f"{prefix}{path.removeprefix('.') or 'the document'}: {text}" for path, text in found]
        documents.append(_Document(prefix, value))
    content = _merge(documents, faults)
    if faults:
        paths = {source.path for source in sources}
        raise PolicyDataError(str(paths.pop() if len(paths) == 1 else sources[0].path.parent), faults)
    return content


def _parse(source: SourceFile) -> Any:
    try:
        text = source.raw.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise ValueError("is not UTF-8") from exc
    try:
        return read_json(text) if source.path.suffix == ".json" else read_yaml(text)
    except RecursionError as exc:  # an alias inside its own anchor, or brackets without end
        raise ValueError("is nested without end") from exc


@dataclass(frozen=True, slots=True)
class _Document:
    prefix: str  # of a path in it
    value: Any

    def part(self, key: str) -> Any:
        return self._content().get(key)

    def has(self, key: str) -> bool:
        return key in self._content()

    def entries(self, kind: str) -> Iterator[Entry]:
        values = self.part(kind)
        for index, value in enumerate(values if isinstance(values, list) else ()):
            if isinstance(value, dict):
                yield Entry(f"{self.prefix}eksgateway.{kind}[{index}]", kind, value)

    def _content(self) -> dict[str, Any]:
        content = self.value.get("eksgateway") if isinstance(self.value, dict) else None
        return content if isinstance(content, dict) else {}


def _merge(documents: list[_Document], faults: list[str]) -> Content:
    """The lists joined, without sets. The documents need not be valid; faults are added."""
    resolver = SetResolver(_merge_sets(documents, faults))
    content: Content = {}
    entries = []
    for kind in KINDS:
        own = [each for document in documents for each in document.entries(kind)]
        content[kind] = [resolver.resolve(each.place, kind, each.value) for each in own]
        entries += own
    if not faults and not any(document.has("grants") for document in documents):
        faults.append("eksgateway.grants: is missing")
    faults += resolver.faults
    faults += find_entry_faults(entries)
    return content


def _merge_sets(documents: list[_Document], faults: list[str]) -> dict[str, NamedSet]:
    sets: dict[str, NamedSet] = {}
    for document in documents:
        own = document.part("sets")
        for name, items in own.items() if isinstance(own, dict) else ():
            place = f"{document.prefix}eksgateway.sets{step(name)}"
            if name in sets:
                faults.append(f"{place}: is defined by {sets[name].place} already")
            elif isinstance(items, list):
                sets[name] = NamedSet(place, items)
    return sets
