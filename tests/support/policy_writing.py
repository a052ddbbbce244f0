"""Writes content as operators may: in several files, with sets, anchors and merge keys, as YAML or JSON."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from random import Random
from typing import Any

from support.policy_generated import Content, Entry

KINDS = ("grants", "denials", "freezes")
_LISTS = ["subjects", "groups", "accounts", "regions", "clusters", "except_clusters", "via", "update_types"]
_LISTS += ["versions", "except_groups", "except_subjects"]
_MAPPINGS = ["tags", "claims"]  # of lists


def write_sources(random: Random, content: Content, folder: Path) -> Path:
    """A file or folder whose content is ``content``, but for the order of entries in a folder's files."""
    files: list[dict[str, Any]] = [{} for _ in range(random.choice([1, 1, 2, 3]))]
    sets: dict[str, list[str]] = {}
    for kind in KINDS:
        files[0][kind] = []
        for entry in content[kind]:
            random.choice(files).setdefault(kind, []).append(_with_sets(random, entry, sets))
    for name, items in sets.items():
        random.choice(files).setdefault("sets", {})[name] = items
    folder.mkdir()
    for number, document in enumerate(files):
        text = _to_yaml(random, document) if random.random() < 0.8 else json.dumps({"eksgateway": document})
        suffix = "json" if text.startswith("{") else "yaml"
        path = folder / f"{number}.{suffix}"
        path.write_text(text, encoding="utf-8")
    return path if len(files) == 1 else folder


def _with_sets(random: Random, entry: Entry, sets: dict[str, list[str]]) -> Entry:
    """The entry, in which sets stand for a part of some lists."""
    entry = copy.deepcopy(entry)
    lists = [entry[key] for key in _LISTS if key in entry]
    lists += [values for key in _MAPPINGS for values in entry.get(key, {}).values()]
    for values in lists:
        if random.random() < 0.3:
            begin = random.randrange(len(values))
            end = random.randint(begin + 1, len(values))
            known = [name for name, items in sets.items() if items == values[begin:end]]
            name = random.choice([*known, f"set-{len(sets)}"])
            sets[name] = values[begin:end]
            values[begin:end] = [f"${name}", *([f"${name}"] if random.random() < 0.1 else [])]
    return entry


def _to_yaml(random: Random, document: dict[str, Any]) -> str:
    lines = ["eksgateway:" if document else "eksgateway: {}"]
    if "sets" in document:
        lines += ["  sets:", *(f"    {name}: {_flow(items)}" for name, items in document["sets"].items())]
    anchors: dict[str, str] = {}  # a list as written -> its anchor
    written: list[tuple[str, Entry]] = []  # entries with an anchor
    for kind in KINDS:
        if kind not in document:
            continue
        lines.append(f"  {kind}:" if document[kind] else f"  {kind}: []")
        for entry in document[kind]:
            lines += _entry_lines(random, entry, anchors, written)
    return "\n".join(lines) + "\n"


def _entry_lines(
    random: Random, entry: Entry, anchors: dict[str, str], written: list[tuple[str, Entry]]
) -> list[str]:
    """The entry as a mapping with an anchor, merged from an earlier one where that has no other keys."""
    anchor = f"e{len(written)}"
    lines = [f"    - &{anchor}"]
    bases = [(name, base) for name, base in written if base.keys() <= entry.keys()]
    members = dict(entry)
    if bases and random.random() < 0.7:
        name, base = random.choice(bases)
        lines.append(f"      <<: *{name}")
        members = {key: value for key, value in entry.items() if base.get(key) != value}
    lines += [f"      {key}: {_value(random, value, anchors)}" for key, value in members.items()]
    written.append((anchor, entry))
    return lines


def _value(random: Random, value: Any, anchors: dict[str, str]) -> str:
    text = _flow(value)
    if not isinstance(value, list) or random.random() < 0.5:
        return text
    if text in anchors:
        return f"*{anchors[text]}"
    anchors[text] = f"l{len(anchors)}"
    return f"&{anchors[text]} {text}"


def _flow(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
