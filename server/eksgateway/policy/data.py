"""Reads and checks the operators' data: every fault, each with its path and how to write it right.

The schema (policies/schemas/data.json, shipped as data.schema.json) says most of it; what a schema
cannot say is here. Nothing is repaired: data that is not right is refused as a whole.
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

from eksgateway.policy.documents import Unquoted, read_json, read_yaml
from eksgateway.policy.engine import PolicyLoadError
from eksgateway.policy.freezes import Edges, in_order, is_written_right, moment

MAX_DATA_BYTES: Final = 4 << 20


class PolicyDataError(PolicyLoadError):
    """Data that cannot be used; each fault has its path."""

    def __init__(self, source: str, faults: list[str]) -> None:
        self._faults = tuple(faults)
        super().__init__("\n".join([f"{source}:", *(f"  - {fault}" for fault in faults)]))

    @property
    def faults(self) -> tuple[str, ...]:
        return self._faults


def load_data(path: Path) -> dict[str, Any]:
    """The data document in a YAML or (by its suffix) JSON file. Raises PolicyDataError."""
    return parse_data(read_data(path), path)


def read_data(path: Path) -> bytes:
    """The file as it is, nothing of it checked but its size. Raises PolicyDataError."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_DATA_BYTES + 1)
    except OSError as exc:
        raise PolicyDataError(str(path), [f"cannot be read: {exc.strerror}"]) from exc
    if len(raw) > MAX_DATA_BYTES:
        raise PolicyDataError(str(path), [f"is larger than {MAX_DATA_BYTES} bytes"])
    return raw


def parse_data(raw: bytes, path: Path) -> dict[str, Any]:
    """The data document that a file held. Raises PolicyDataError."""
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
    """Everything that is wrong with a data document, as ``path: what``; nothing is wrong when empty."""
    errors = sorted(
        _validator().iter_errors(document), key=lambda error: [str(p) for p in error.absolute_path]
    )
    faults = [line for error in errors for line in _explain(error)]
    return list(dict.fromkeys([*faults, *_beyond_schema(document)]))


def describe(data: dict[str, Any]) -> str:
    """One line about data that is right, for `eksgateway policy check`."""
    content = data["eksgateway"]
    counts = {"grant": len(content["grants"]), "freeze": len(content.get("freezes", []))}
    return ", ".join(f"{count} {noun}{'' if count == 1 else 's'}" for noun, count in counts.items())


def changes(before: dict[str, Any], after: dict[str, Any]) -> dict[str, list[str]]:
    """What differs between data that is right: ids of grants and freezes added, removed or changed."""
    found = {}
    for kind in ("grants", "freezes"):
        old, new = (
            {each["id"]: each for each in data["eksgateway"].get(kind, [])} for data in (before, after)
        )
        found[f"{kind}_added"] = [name for name in new if name not in old]
        found[f"{kind}_removed"] = [name for name in old if name not in new]
        found[f"{kind}_changed"] = [name for name in new if name in old and old[name] != new[name]]
    return {what: names for what, names in found.items() if names}


def edges_of(data: dict[str, Any]) -> Edges:
    """When the freezes begin and end."""
    return in_order(freeze.get(key) for _, freeze in entries(data, "freezes") for key in ("from", "until"))


@cache
def _validator() -> jsonschema.Draft7Validator:
    schema = json.loads((files("eksgateway.policy") / "data.schema.json").read_text(encoding="utf-8"))
    # Untyped in its stubs: gives a class like the one it extends.
    extended: Any = jsonschema.validators.extend(jsonschema.Draft7Validator, {"pattern": _whole})  # type: ignore[no-untyped-call]
    validator: jsonschema.Draft7Validator = extended(schema)
    return validator


def _whole(_: Any, pattern: str, value: Any, __: Any) -> Iterator[jsonschema.ValidationError]:
    """The schema's patterns are anchored; in Python alone `$` would let a newline follow."""
    if isinstance(value, str) and not re.fullmatch(pattern, value):
        yield jsonschema.ValidationError(f"{value!r} does not match")


def _explain(error: jsonschema.ValidationError) -> list[str]:
    path, value = _place(error.absolute_path), cast("Any", error.instance)
    schema = cast("Any", error.schema)  # the part of the schema that `value` does not fit
    rule = cast("Any", error.validator_value)
    match error.validator:
        case "additionalProperties":
            known = schema["properties"]
            return [
                f"{_under(path, key)}: is not known here; the keys are {', '.join(known)}"
                for key in value
                if key not in known
            ]
        case "required":
            return [f"{_under(path, key)}: is missing" for key in rule if key not in value]
        case "enum":
            return [f"{path}: {value!r} is not one of {', '.join(rule)}"]
        case "pattern":
            return [f"{path}: {value!r} is not understood; {schema['description']}"]
        case "type":
            return [f"{path or 'the document'}: {_mistyped(value, str(rule))}"]
        case _:  # minItems, minLength
            return [f"{path}: is empty; leave it out, or fill it"]


_KINDS: Final = {"array": "a list", "object": "a mapping", "string": "text"}


def _mistyped(value: Any, wanted: str) -> str:
    if value is None:
        return f"must be {_KINDS[wanted]}, and is empty"
    if not isinstance(value, Unquoted):
        return f"must be {_KINDS[wanted]}, and is {value!r:.80}"
    if wanted == "string":
        return f'{value.text} without quotes is {value.kind}; write it as text: "{value.text}"'
    return f"must be {_KINDS[wanted]}, and is {value.text}"


def _beyond_schema(document: Any) -> Iterator[str]:
    grants, freezes = list(entries(document, "grants")), list(entries(document, "freezes"))
    first: dict[str, str] = {}
    for path, entry in [*grants, *freezes]:
        name = entry.get("id")
        if isinstance(name, str) and first.setdefault(name, path) != path:
            yield f"{path}.id: {name!r} is the id of {first[name]} already"
    for path, grant in grants:
        if "subjects" not in grant and "groups" not in grant:
            yield f"{path}: names nobody; give it subjects or groups"
        actions = grant.get("actions")
        if isinstance(actions, list) and "cancel" in actions and "update_types" not in grant:
            yield f"{path}.update_types: is missing; list the update types that it lets cancel"
    for path, freeze in freezes:
        yield from _window_faults(path, freeze)


def _window_faults(path: str, freeze: dict[str, Any]) -> Iterator[str]:
    begins, ends = moment(freeze.get("from")), moment(freeze.get("until"))
    for key, time in (("from", begins), ("until", ends)):
        text = freeze.get(key)
        if time is None and isinstance(text, str) and is_written_right(text):  # else the schema tells
            yield f"{path}.{key}: {text!r} is no time that exists"
    if begins and ends and begins >= ends:
        yield f"{path}.until: is not after from ({freeze['from']!r}), so the freeze ends before it begins"


def entries(document: Any, key: str) -> Iterator[tuple[str, dict[str, Any]]]:
    content = document.get("eksgateway") if isinstance(document, dict) else None
    entries = content.get(key) if isinstance(content, dict) else None
    for index, entry in enumerate(entries if isinstance(entries, list) else []):
        if isinstance(entry, dict):
            yield f"eksgateway.{key}[{index}]", entry


def _place(path: Iterable[str | int]) -> str:
    place = ""
    for part in path:
        place = f"{place}[{part}]" if isinstance(part, int) else _under(place, part)
    return place


def _under(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
