"""Reads YAML strictly: a key is text and occurs once in a mapping."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import yaml

YamlPath: TypeAlias = tuple[int | str, ...]

_KINDS: Final = {"int": "a number", "float": "a number", "bool": "a boolean", "timestamp": "a date"}
_DECIMAL: Final = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_MERGE: Final = "tag:yaml.org,2002:merge"


@dataclass(frozen=True, slots=True)
class Unquoted:
    """A scalar that YAML does not read as text: 0123 would become 83."""

    text: str
    kind: str


class YamlDocument:
    """A document's ``value`` with its text. Raises yaml.YAMLError."""

    def __init__(self, text: str) -> None:
        loader = _Loader(text)
        try:
            self._root = loader.get_single_node()
            self.value: Any = None if self._root is None else loader.construct_document(self._root)
        finally:
            loader.dispose()

    def hint(self, path: YamlPath) -> str:
        """How to write a value as text, if YAML reads it as something else, else empty."""
        node = self._root
        for part in path:
            node = _child(node, part)
        if not isinstance(node, yaml.ScalarNode):
            return ""
        tag = _short_tag(node)
        if tag == "null":
            return "is empty: set it"
        kind = _KINDS.get(tag)
        return f'{node.value} without quotes is {kind}; write it as text: "{node.value}"' if kind else ""

    def odd_numbers(self) -> Iterator[tuple[YamlPath, str]]:
        """Integers that YAML does not read as decimal, each with a message."""
        yield from _odd_numbers(self._root, ())


def read_yaml(text: str) -> Any:
    """Numbers, booleans and dates become Unquoted. Raises ValueError with line and column."""
    try:
        return yaml.load(text, Loader=_TextLoader)  # noqa: S506 - a SafeLoader with even fewer types
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark
        position = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ValueError(f"{position}is not YAML that can be used: {exc.problem}") from exc
    except yaml.YAMLError as exc:
        raise ValueError("is not YAML") from exc


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if key_node.tag == _MERGE:
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Unquoted):
                problem = f'the key {key.text} without quotes is {key.kind}; write it as text: "{key.text}"'
                raise _yaml_error(problem, key_node)
            if not isinstance(key, str):
                raise _yaml_error("a key must be text", key_node)
            if key in seen:  # YAML would silently use the last one
                raise _yaml_error(f"the key {key!r} stands twice in one mapping", key_node)
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except ValueError as exc:  # a date or number that does not exist
            problem = f"{node.value} cannot be read ({exc}); if it is text, write it in quotes"
            raise _yaml_error(problem, node) from exc


class _TextLoader(_Loader):
    """Constructs everything at once, so that an alias inside its own anchor is an error."""

    def construct_map(self, node: yaml.MappingNode) -> dict[Any, Any]:
        self.flatten_mapping(node)  # merged keys (<<) are checked too
        return self.construct_mapping(node, deep=True)

    def construct_unquoted(self, node: yaml.ScalarNode) -> Unquoted:
        return Unquoted(node.value, _KINDS[_short_tag(node)])


_TextLoader.add_constructor("tag:yaml.org,2002:map", _TextLoader.construct_map)
for _tag in _KINDS:
    _TextLoader.add_constructor(f"tag:yaml.org,2002:{_tag}", _TextLoader.construct_unquoted)


def _yaml_error(problem: str, node: yaml.Node) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


def _short_tag(node: yaml.Node) -> str:
    tag: str = node.tag.rpartition(":")[2]
    return tag


def _child(node: Any, part: int | str) -> Any:
    if isinstance(node, yaml.MappingNode):
        return next((value for key, value in node.value if key.value == part), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part]
    return None


def _odd_numbers(node: Any, path: YamlPath) -> Iterator[tuple[YamlPath, str]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _odd_numbers(value, (*path, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _odd_numbers(value, (*path, index))
    elif node is not None and node.tag.endswith(":int") and not _DECIMAL.fullmatch(node.value):
        value = yaml.safe_load(node.value)
        yield path, f"{node.value} is {value} to YAML; write it as a plain number, or quote it as text"
