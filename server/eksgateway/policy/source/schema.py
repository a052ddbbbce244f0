"""Checks values against the schema of the policy data (policies/schemas/data.json, shipped as
data.schema.json), and explains each fault.

The schema is compiled to functions, one for each of its parts: a general validator takes seconds for
thousands of grants. A keyword that is not implemented here is an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from typing import Any, Final, TypeAlias

from eksgateway.policy.source.faults import Faults
from eksgateway.strict_yaml import Unquoted

# Checks a value at a path, and adds to the faults.
Check: TypeAlias = Callable[[Any, str, Faults], None]

_ANNOTATIONS: Final = {"$schema", "title", "description", "definitions", "type"}
_EMPTY: Final = "is empty; leave it out, or fill it"
_TYPE_NAMES: Final = {"object": "a mapping", "array": "a list", "string": "text"}


@cache
def read_schema() -> dict[str, Any]:
    text = (files("eksgateway.policy") / "data.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


@cache
def document_check() -> Check:
    return compile_check(read_schema())


def resolve(schema: dict[str, Any]) -> dict[str, Any]:
    """Follow a ``$ref``."""
    while "$ref" in schema:
        schema = read_schema()["definitions"][schema["$ref"].removeprefix("#/definitions/")]
    return schema


def compile_check(schema: dict[str, Any]) -> Check:
    """Raises NotImplementedError for what is not implemented."""
    schema = resolve(schema)
    match schema:
        case {"type": "object"}:
            known = {"properties", "required", "additionalProperties", "propertyNames", "minProperties"}
            check = _compile_object(schema)
        case {"type": "array"}:
            known, check = {"items", "minItems"}, _compile_array(schema)
        case {"type": "string", "enum": [*values]}:
            known, check = {"enum"}, _compile_enum(values)
        case {"type": "string"}:
            known, check = {"pattern", "minLength"}, _compile_string(schema)
        case {"anyOf": [first, second]}:
            known, check = {"anyOf"}, _compile_either(first, second)
        case _:
            raise NotImplementedError(f"a part of the schema: {schema}")
    if unknown := schema.keys() - _ANNOTATIONS - known:
        raise NotImplementedError(f"keywords of the schema: {unknown}")
    return check


def _compile_object(schema: dict[str, Any]) -> Check:
    properties = {key: compile_check(part) for key, part in schema.get("properties", {}).items()}
    others = schema["additionalProperties"]
    other = compile_check(others) if others else None
    names = compile_check(schema["propertyNames"]) if "propertyNames" in schema else None
    required, least = schema.get("required", []), schema.get("minProperties", 0)
    known = f"the keys are {', '.join(properties)}"

    def check(value: Any, path: str, faults: Faults) -> None:
        if type(value) is not dict:
            faults.add(path, _explain_type(value, "object"))
            return
        if len(value) < least:
            faults.add(path, _EMPTY)
        for key, each in value.items():
            inner = join(path, key)
            if names is not None:
                names(key, inner, faults)
            part = properties.get(key, other)
            if part is None:
                near = get_close_matches(key, properties, n=1)
                hint = f"; is {near[0]} meant?" if near else f"; {known}"
                faults.add(inner, f"is not known here{hint}")
            else:
                part(each, inner, faults)
        for key in required:
            if key not in value:
                faults.add(join(path, key), "is missing")

    return check


def _compile_array(schema: dict[str, Any]) -> Check:
    items, least = compile_check(schema["items"]), schema.get("minItems", 0)

    def check(value: Any, path: str, faults: Faults) -> None:
        if type(value) is not list:
            faults.add(path, _explain_type(value, "array"))
            return
        if len(value) < least:
            faults.add(path, _EMPTY)
        for index, each in enumerate(value):
            items(each, f"{path}[{index}]", faults)

    return check


def _compile_enum(values: list[str]) -> Check:
    def check(value: Any, path: str, faults: Faults) -> None:
        if type(value) is not str:
            faults.add(path, _explain_type(value, "string"))
        elif value not in values:
            faults.add(path, f"{value!r:.80} is not one of {', '.join(values)}")

    return check


def _compile_string(schema: dict[str, Any]) -> Check:
    # In Python `$` also matches before a final newline, so a pattern is matched as a whole.
    fullmatch = re.compile(schema.get("pattern", r"(?s:.*)")).fullmatch
    least, description = schema.get("minLength", 0), schema.get("description")

    def check(value: Any, path: str, faults: Faults) -> None:
        if type(value) is not str:
            faults.add(path, _explain_type(value, "string"))
        elif len(value) < least:
            faults.add(path, _EMPTY)
        elif not fullmatch(value):
            faults.add(path, f"{value!r:.80} is not understood; {description}")

    return check


def _compile_either(first: dict[str, Any], second: dict[str, Any]) -> Check:
    usual, other = compile_check(first), compile_check(second)

    def check(value: Any, path: str, faults: Faults) -> None:
        own = Faults()
        usual(value, path, own)
        if not own.count:
            return
        others = Faults()
        other(value, path, others)
        if others.count:
            faults.merge(own, "")

    return check


def join(path: str, key: str) -> str:
    """The path of a mapping's key, on one line."""
    shown = key if key.isprintable() and len(key) <= 128 else f"{key!r:.128}"
    return f"{path}.{shown}" if path else shown


def _explain_type(value: Any, wanted: str) -> str:
    name = _TYPE_NAMES[wanted]
    if value is None:
        return f"must be {name}, and is empty"
    if not isinstance(value, Unquoted):
        return f"must be {name}, and is {_show(value)}"
    place = f" ({value.place})" if value.place else ""
    if wanted == "string":
        return f"{value.explain()}{place}"
    return f"must be {name}, and is {value.text}{place}"


def _show(value: Any) -> str:
    """Without the content of collections, which may be endless."""
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    return f"{value!r:.80}"
