"""YAML and JSON as written: duplicate keys are refused, and plain scalars that YAML would turn into
numbers, dates or booleans keep their text, so that a fault can say how to write them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

import yaml

from eksgateway import strict_json


@dataclass(frozen=True, slots=True)
class Unquoted:
    """A scalar that is not text, because it stands without quotes: 0123 would become 83."""

    text: str
    kind: str


def read_yaml(text: str) -> Any:
    """The document in ``text``. Raises ValueError, which says where YAML breaks."""
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader that makes even fewer types
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ValueError(f"{place}is not YAML that can be used: {exc.problem}") from exc
    except yaml.YAMLError as exc:
        raise ValueError("is not YAML") from exc


def read_json(text: str) -> Any:
    """The document in ``text``. Raises ValueError, which says where JSON breaks."""
    try:
        return strict_json.loads(text, parse_int=_number, parse_float=_number)
    except json.JSONDecodeError as exc:
        raise ValueError(f"line {exc.lineno}, column {exc.colno}: is not JSON: {exc.msg}") from exc


def _number(text: str) -> Unquoted:
    return Unquoted(text, "a number")


class _Loader(yaml.SafeLoader):
    pass


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[str, Any]:
    loader.flatten_mapping(node)  # merge keys (<<), as OPA reads them
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if isinstance(key, Unquoted):
            problem = f'the key {key.text} without quotes is {key.kind}; write it as text: "{key.text}"'
            raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
        if not isinstance(key, str):
            raise yaml.constructor.ConstructorError(None, None, "a key must be text", key_node.start_mark)
        if key in found:
            problem = f"the key {key!r} stands twice in one mapping"
            raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
        found[key] = loader.construct_object(value_node, deep=True)
    return found


_KINDS: Final = {"int": "a number", "float": "a number", "bool": "a boolean", "timestamp": "a date"}


def _unquoted(_: _Loader, node: yaml.ScalarNode) -> Unquoted:
    return Unquoted(node.value, _KINDS[node.tag.rpartition(":")[2]])


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
for _kind in _KINDS:
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _unquoted)
