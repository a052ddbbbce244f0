"""A settings file in YAML: its values, and hints at what YAML misreads."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, TypeAlias

import yaml

from eksgateway.strict_yaml import Unquoted, read_yaml

YamlPath: TypeAlias = tuple[int | str, ...]

_DECIMAL: Final = re.compile(r"[-+]?(0|[1-9][0-9]*)")


class YamlDocument:
    """A document's ``value``, with numbers, booleans and dates. Raises ValueError."""

    def __init__(self, text: str) -> None:
        self._written = read_yaml(text)
        self.value = _construct(self._written)

    def hint(self, path: YamlPath) -> str:
        """How to write a value as text, if YAML reads it as something else, else empty."""
        value = self._written
        for part in path:
            try:
                value = value[part]
            except (KeyError, IndexError, TypeError):
                return ""
        if value is None:
            return "is empty: set it"
        return value.explain() if isinstance(value, Unquoted) else ""

    def odd_numbers(self) -> Iterator[tuple[YamlPath, str]]:
        """Integers that YAML does not read as decimal, each with a message."""
        yield from _odd_numbers(self._written, ())


def _construct(value: Any) -> Any:
    match value:
        case Unquoted():
            try:
                return yaml.safe_load(value.text)
            except ValueError as exc:  # a date or number that does not exist
                text = f"{value.text} cannot be read ({exc}); if it is text, write it in quotes"
                raise ValueError(f"{value.place}: {text}") from exc
        case dict():
            return {key: _construct(each) for key, each in value.items()}
        case list():
            return [_construct(each) for each in value]
    return value


def _odd_numbers(value: Any, path: YamlPath) -> Iterator[tuple[YamlPath, str]]:
    match value:
        case dict():
            for key, each in value.items():
                yield from _odd_numbers(each, (*path, key))
        case list():
            for index, each in enumerate(value):
                yield from _odd_numbers(each, (*path, index))
        case Unquoted(text=text, kind="a number") if not _DECIMAL.fullmatch(text):
            number = yaml.safe_load(text)
            if isinstance(number, int):
                yield path, f"{text} is {number} to YAML; write it as a plain number, or quote it as text"
