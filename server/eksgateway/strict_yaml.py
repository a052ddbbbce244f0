"""A YAML document together with its text, so that a fault can show how a value was written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import yaml

Place = tuple[int | str, ...]

_EMPTY: Final = "empty"
_KINDS: Final = {
    "int": "a number",
    "float": "a number",
    "bool": "a boolean",
    "timestamp": "a date",
    "null": _EMPTY,
}
_DECIMAL: Final = re.compile(r"[-+]?(0|[1-9][0-9]*)")


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice: YAML would take the last one without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(
                    None, None, "a setting's name is text", key.start_mark
                )
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the setting {key.value!r} stands twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except ValueError as exc:  # a date or a number that there is not
            problem = f"{node.value} cannot be read ({exc}); if it is text, write it in quotes"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from exc


class Written:
    """``raw`` is the document as Python values. Raises yaml.YAMLError."""

    def __init__(self, text: str) -> None:
        loader = _Loader(text)
        try:
            self._root = loader.get_single_node()
            self.raw: Any = None if self._root is None else loader.construct_document(self._root)
        finally:
            loader.dispose()

    def hint(self, place: Place) -> str:
        """How to write a value as text where YAML takes it for something else; else empty."""
        node = self._root
        for part in place:
            node = _child(node, part)
        if not isinstance(node, yaml.ScalarNode):
            return ""
        kind = _KINDS.get(node.tag.rpartition(":")[2])
        if kind == _EMPTY:
            return "is empty: set it"
        return f'{node.value} without quotes is {kind}; write it as text: "{node.value}"' if kind else ""

    def odd_numbers(self) -> Iterator[tuple[Place, str]]:
        """Whole numbers that YAML reads in another base than people do, each with its place and its value."""
        yield from _odd_numbers(self._root, ())


def _child(node: Any, part: int | str) -> Any:
    if isinstance(node, yaml.MappingNode):
        return next((value for key, value in node.value if key.value == part), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part]
    return None


def _odd_numbers(node: Any, place: Place) -> Iterator[tuple[Place, str]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _odd_numbers(value, (*place, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _odd_numbers(value, (*place, index))
    elif node is not None and node.tag.endswith(":int") and not _DECIMAL.fullmatch(node.value):
        value = yaml.safe_load(node.value)
        yield place, f"{node.value} is {value} to YAML; write it as a plain number, or quote it as text"
