"""Reads and checks the policy data: grants and freezes. Data with any fault is refused as a whole.

The schema (policies/schemas/data.json, shipped as data.schema.json) has most rules.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, cast

import jsonschema

from eksgateway.file_reader import FileUnreadable, read_file
from eksgateway.policy.edges import is_utc_time, parse_time
from eksgateway.policy.engine import PolicyLoadError
from eksgateway.strict_json import read_json
from eksgateway.strict_yaml import Unquoted, read_yaml

MAX_DATA_BYTES: Final = 4 << 20


class PolicyDataError(PolicyLoadError):
    def __init__(self, source: str, faults: list[str]) -> None:
        super().__init__("\n".join([f"{source}:", *(f"  - {fault}" for fault in faults)]), tuple(faults))


def load_data(path: Path) -> dict[str, Any]:
    """The data in a YAML file, or in JSON if its suffix is .json. Raises PolicyDataError."""
    return parse_data(read_data(path), path)


def read_data(path: Path) -> bytes:
    """Raises PolicyDataError."""
    try:
        return read_file(path, MAX_DATA_BYTES)
    except FileUnreadable as exc:
        raise PolicyDataError(str(path), [f"cannot be read: {exc}"]) from exc


def parse_data(raw: bytes, path: Path) -> dict[str, Any]:
    """Raises PolicyDataError."""
    try:
        text = raw.decode("utf-8")
        document = read_json(text) if path.suffix == ".json" else read_yaml(text)
        faults = find_faults(document)
    except UnicodeDecodeError as exc:
        raise PolicyDataError(str(path), ["is not UTF-8"]) from exc
    except ValueError as exc:
        raise PolicyDataError(str(path), [str(exc)]) from exc
    except RecursionError as exc:  # an alias inside its own anchor, or brackets without end
        raise PolicyDataError(str(path), ["is nested without end"]) from exc
    if faults:
        raise PolicyDataError(str(path), faults)
    data: dict[str, Any] = document
    return data


def find_faults(document: Any) -> list[str]:
    """Each fault as ``path: fault``, with how to correct it."""
    errors = sorted(
        _validator().iter_errors(document), key=lambda error: [str(p) for p in error.absolute_path]
    )
    faults = [line for error in errors for line in _explain_error(error)]
    return list(dict.fromkeys([*faults, *_beyond_schema(document)]))


def describe(data: dict[str, Any]) -> str:
    content = data["eksgateway"]
    counts = {"grant": len(content["grants"]), "freeze": len(content.get("freezes", []))}
    return ", ".join(f"{count} {noun}{'' if count == 1 else 's'}" for noun, count in counts.items())


def changes(before: dict[str, Any], after: dict[str, Any]) -> dict[str, list[str]]:
    """The ids of the grants and freezes that were added, removed or changed, between valid data."""
    ids = {}
    for kind in ("grants", "freezes"):
        old, new = (
            {each["id"]: each for each in data["eksgateway"].get(kind, [])} for data in (before, after)
        )
        ids[f"{kind}_added"] = [name for name in new if name not in old]
        ids[f"{kind}_removed"] = [name for name in old if name not in new]
        ids[f"{kind}_changed"] = [name for name in new if name in old and old[name] != new[name]]
    return {change: names for change, names in ids.items() if names}


def freeze_times(data: dict[str, Any]) -> list[int]:
    freezes = [freeze for _, freeze in iter_entries(data, "freezes")]
    times = (parse_time(freeze.get(key)) for freeze in freezes for key in ("from", "until"))
    return sorted({int(time.timestamp()) for time in times if time is not None})


def iter_entries(document: Any, key: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The ``grants`` or ``freezes`` with their paths; the data need not be valid."""
    content = document.get("eksgateway") if isinstance(document, dict) else None
    entries = content.get(key) if isinstance(content, dict) else None
    for index, entry in enumerate(entries if isinstance(entries, list) else []):
        if isinstance(entry, dict):
            yield f"eksgateway.{key}[{index}]", entry


@cache
def _validator() -> jsonschema.Draft7Validator:
    schema = json.loads((files("eksgateway.policy") / "data.schema.json").read_text(encoding="utf-8"))
    # Untyped in its stubs: returns a class like the one it extends.
    extended: Any = jsonschema.validators.extend(jsonschema.Draft7Validator, {"pattern": _match_whole})  # type: ignore[no-untyped-call]
    validator: jsonschema.Draft7Validator = extended(schema)
    return validator


def _match_whole(_: Any, pattern: str, value: Any, __: Any) -> Iterator[jsonschema.ValidationError]:
    """In Python `$` also matches before a final newline, so `pattern` is matched as a whole."""
    if isinstance(value, str) and not re.fullmatch(pattern, value):
        yield jsonschema.ValidationError(f"{value!r} does not match")


def _explain_error(error: jsonschema.ValidationError) -> list[str]:
    path, value = _format_path(error.absolute_path), cast("Any", error.instance)
    schema = cast("Any", error.schema)  # the part of the schema that the value violates
    rule = cast("Any", error.validator_value)
    match error.validator:
        case "additionalProperties":
            known = schema["properties"]
            return [
                f"{_join(path, key)}: is not known here; the keys are {', '.join(known)}"
                for key in value
                if key not in known
            ]
        case "required":
            return [f"{_join(path, key)}: is missing" for key in rule if key not in value]
        case "enum":
            return [f"{path}: {value!r} is not one of {', '.join(rule)}"]
        case "pattern":
            return [f"{path}: {value!r} is not understood; {schema['description']}"]
        case "type":
            return [f"{path or 'the document'}: {_explain_type(value, str(rule))}"]
        case _:  # minItems, minLength
            return [f"{path}: is empty; leave it out, or fill it"]


_TYPE_NAMES: Final = {"array": "a list", "object": "a mapping", "string": "text"}


def _explain_type(value: Any, wanted: str) -> str:
    if value is None:
        return f"must be {_TYPE_NAMES[wanted]}, and is empty"
    if not isinstance(value, Unquoted):
        return f"must be {_TYPE_NAMES[wanted]}, and is {value!r:.80}"
    if wanted == "string":
        return f'{value.text} without quotes is {value.kind}; write it as text: "{value.text}"'
    return f"must be {_TYPE_NAMES[wanted]}, and is {value.text}"


def _beyond_schema(document: Any) -> Iterator[str]:
    grants, freezes = list(iter_entries(document, "grants")), list(iter_entries(document, "freezes"))
    first: dict[str, str] = {}
    for path, entry in [*grants, *freezes]:
        name = entry.get("id")
        if isinstance(name, str) and first.setdefault(name, path) != path:
            yield f"{path}.id: {name!r} is the id of {first[name]} already"
    for path, grant in grants:
        if "subjects" not in grant and "groups" not in grant:
            yield f"{path}: names no caller; give it subjects or groups"
        actions = grant.get("actions")
        if isinstance(actions, list) and "cancel" in actions and "update_types" not in grant:
            yield f"{path}.update_types: is missing; list the update types that it lets cancel"
    for path, freeze in freezes:
        yield from _window_faults(path, freeze)


def _window_faults(path: str, freeze: dict[str, Any]) -> Iterator[str]:
    begins, ends = parse_time(freeze.get("from")), parse_time(freeze.get("until"))
    for key, time in (("from", begins), ("until", ends)):
        text = freeze.get(key)
        if time is None and isinstance(text, str) and is_utc_time(text):  # else the schema's pattern fails
            yield f"{path}.{key}: {text!r} is no time that exists"
    if begins and ends and begins >= ends:
        yield f"{path}.until: is not after from ({freeze['from']!r}), so the freeze ends before it begins"


def _format_path(parts: Iterable[str | int]) -> str:
    path = ""
    for part in parts:
        path = f"{path}[{part}]" if isinstance(part, int) else _join(path, part)
    return path


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
