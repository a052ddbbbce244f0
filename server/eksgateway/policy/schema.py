"""What does not fit a JSON Schema, in words for the operators who wrote it.

Knows the few keywords that the data's schema has, and no others. A library for all of them takes as long
to import as all else of a policy, at each start.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from eksgateway.policy.documents import Unquoted

KEYWORDS: Final = {
    *("$schema", "title", "description", "definitions", "$ref", "type"),
    *("properties", "required", "additionalProperties", "items", "minItems"),
    *("enum", "pattern", "minLength"),
}
_TYPES: Final = {"array": list, "object": dict, "string": str}
_KINDS: Final = {"array": "a list", "object": "a mapping", "string": "text"}


class Schema:
    """A schema in which every part has a type. A document has no numbers and dates, but ``Unquoted``."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._root = document

    def faults(self, document: Any) -> Iterator[str]:
        """Each as ``path: what``, in the document's order."""
        return self._faults(self._root, document, "")

    def _faults(self, part: dict[str, Any], value: Any, path: str) -> Iterator[str]:
        if "$ref" in part:
            part = self._root["definitions"][part["$ref"].removeprefix("#/definitions/")]
        if not isinstance(value, _TYPES[part["type"]]):
            yield f"{path or 'the document'}: {_mistyped(value, part['type'])}"
        elif isinstance(value, dict):
            yield from self._of_mapping(part, value, path)
        elif not value and (part.get("minItems") or part.get("minLength")):
            yield f"{path}: is empty; leave it out, or fill it"
        elif isinstance(value, list):
            for index, each in enumerate(value):
                yield from self._faults(part["items"], each, f"{path}[{index}]")
        elif value not in part.get("enum", [value]):
            yield f"{path}: {value!r} is not one of {', '.join(part['enum'])}"
        elif not re.fullmatch(part.get("pattern", "(?s:.*)"), value):  # with `$` alone a newline might follow
            yield f"{path}: {value!r} is not understood; {part['description']}"

    def _of_mapping(self, part: dict[str, Any], value: dict[str, Any], path: str) -> Iterator[str]:
        known, others = part.get("properties", {}), part["additionalProperties"]
        for key, each in value.items():
            if key in known or others:
                yield from self._faults(known.get(key, others), each, under(path, key))
            else:
                yield f"{under(path, key)}: is not known here; the keys are {', '.join(known)}"
        for key in part.get("required", ()):
            if key not in value:
                yield f"{under(path, key)}: is missing"


def under(path: str, key: str) -> str:
    """The path of what stands under a key."""
    return f"{path}.{key}" if path else key


def _mistyped(value: Any, wanted: str) -> str:
    if value is None:
        return f"must be {_KINDS[wanted]}, and is empty"
    if not isinstance(value, Unquoted):
        return f"must be {_KINDS[wanted]}, and is {value!r:.80}"
    if wanted == "string":
        return f'{value.text} without quotes is {value.kind}; write it as text: "{value.text}"'
    return f"must be {_KINDS[wanted]}, and is {value.text}"
