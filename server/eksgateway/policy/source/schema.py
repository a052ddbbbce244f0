"""Checks documents against the schema of the policy data (policies/schemas/data.json, shipped as
data.schema.json), and explains each fault.

The schema is compiled to functions, one for each of its parts: a general validator would take seconds for
thousands of grants. A keyword that is not implemented here is an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from importlib.resources import files
from typing import Any, Final, TypeAlias

from eksgateway.strict_yaml import Unquoted

Fault: TypeAlias = tuple[str, str]  # a path, as in `.grants[3].id`, and what is wrong there
Check: TypeAlias = Callable[[Any], list[Fault]]

_ANNOTATIONS: Final = {"$schema", "title", "description", "definitions"}
_TYPES: Final[dict[str, tuple[type, str]]] = {
    "object": (dict, "a mapping"),
    "array": (list, "a list"),
    "string": (str, "text"),
}


@cache
def read_schema() -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(
        (files("eksgateway.policy") / "data.schema.json").read_text(encoding="utf-8")
    )
    return schema


@cache
def document_check() -> Check:
    return compile_check(read_schema())


@cache
def item_check(kind: str, key: str) -> Check:
    """The check of an item of a list, or of the lists in a mapping, for instance ("grant", "accounts")."""
    part = _resolve(read_schema()["definitions"][kind]["properties"][key])
    lists = _resolve(part.get("additionalProperties") or part)
    return compile_check(lists["items"]["anyOf"][0])


def list_keys(kind: str) -> Iterator[tuple[str, bool]]:
    """The keys of an entry whose lists may name sets; True if the key holds a mapping of such lists."""
    for key, part in read_schema()["definitions"][kind]["properties"].items():
        resolved = _resolve(part)
        mapping = isinstance(resolved.get("additionalProperties"), dict)
        lists = _resolve(resolved["additionalProperties"]) if mapping else resolved
        if "anyOf" in lists.get("items", {}):
            yield key, mapping


def compile_check(schema: dict[str, Any]) -> Check:
    schema = _resolve(schema)
    unknown = schema.keys() - _ANNOTATIONS - {"type"}
    match schema:
        case {"type": "object"}:
            known = {"properties", "required", "additionalProperties", "propertyNames", "minProperties"}
            check = _compile_object(schema)
        case {"type": "array"}:
            known, check = {"items", "minItems"}, _compile_array(schema)
        case {"type": "string"}:
            known, check = {"enum", "pattern", "minLength"}, _compile_string(schema)
        case {"anyOf": [first, second]}:
            known, check = {"anyOf"}, _compile_either(first, second)
        case _:
            raise NotImplementedError(f"a schema of another kind: {schema}")
    if unknown - known:
        raise NotImplementedError(f"keywords of the schema: {unknown - known}")
    return check


def _resolve(schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        schema = read_schema()["definitions"][schema["$ref"].removeprefix("#/definitions/")]
    return schema


def _compile_object(schema: dict[str, Any]) -> Check:
    properties = {key: compile_check(part) for key, part in schema.get("properties", {}).items()}
    others = schema.get("additionalProperties", True)
    other = compile_check(others) if isinstance(others, dict) else None
    names = compile_check(schema["propertyNames"]) if "propertyNames" in schema else None
    required, least = schema.get("required", []), schema.get("minProperties", 0)
    unknown = f"is not known here; the keys are {', '.join(properties)}"

    def check(value: Any) -> list[Fault]:
        if type(value) is not dict:
            return [("", _explain_type(value, "object"))]
        faults: list[Fault] = []
        for key, each in value.items():
            part = properties.get(key, other)
            if part is None:
                faults.append((step(key), unknown))
            elif found := part(each):
                faults += [(step(key) + path, text) for path, text in found]
            if names is not None and (found := names(key)):
                faults += [(step(key), text) for _, text in found]
        faults += [(step(key), "is missing") for key in required if key not in value]
        return faults if len(value) >= least else [("", _EMPTY)]

    return check


def _compile_array(schema: dict[str, Any]) -> Check:
    items, least = compile_check(schema["items"]), schema.get("minItems", 0)

    def check(value: Any) -> list[Fault]:
        if type(value) is not list:
            return [("", _explain_type(value, "array"))]
        if len(value) < least:
            return [("", _EMPTY)]
        faults: list[Fault] = []
        for index, each in enumerate(value):
            if found := items(each):
                faults += [(f"[{index}]{path}", text) for path, text in found]
        return faults

    return check


def _compile_string(schema: dict[str, Any]) -> Check:
    values = schema.get("enum", ())
    pattern = schema.get("pattern", "^(?s:.+)$" if schema.get("minLength") else "^(?s:.*)$")
    # In Python `$` also matches before a final newline, so `pattern` is matched as a whole.
    fullmatch = re.compile(pattern).fullmatch

    def check(value: Any) -> list[Fault]:
        if type(value) is not str:
            return [("", _explain_type(value, "string"))]
        if values and value not in values:
            return [("", f"{value!r:.80} is not one of {', '.join(values)}")]
        if fullmatch(value):
            return []
        if "pattern" not in schema:
            return [("", _EMPTY)]
        return [("", f"{value!r:.200} is not understood; {schema['description']}")]

    return check


def _compile_either(first: dict[str, Any], second: dict[str, Any]) -> Check:
    """The faults of the first alternative, if the value fits neither."""
    usual, other = compile_check(first), compile_check(second)

    def check(value: Any) -> list[Fault]:
        faults = usual(value)
        return faults if faults and other(value) else []

    return check


def step(key: str) -> str:
    """A mapping's key as a part of a path, on one line."""
    return f".{key}" if key.isprintable() else f".{key!r}"


_EMPTY: Final = "is empty; leave it out, or fill it"


def _explain_type(value: Any, wanted: str) -> str:
    name = _TYPES[wanted][1]
    if value is None:
        return f"must be {name}, and is empty"
    if not isinstance(value, Unquoted):
        return f"must be {name}, and is {value!r:.80}"
    if wanted == "string":
        return f'{value.text} without quotes is {value.kind}; write it as text: "{value.text}"'
    return f"must be {name}, and is {value.text}"
