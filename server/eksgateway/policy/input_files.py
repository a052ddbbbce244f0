"""Reads policy inputs that are written by hand or come from a decision log."""

from __future__ import annotations

import json
from datetime import datetime
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import jsonschema

from eksgateway.errors import StartError
from eksgateway.policy.question import utc_seconds
from eksgateway.strict_json import read_json
from eksgateway.strict_yaml import Unquoted, read_yaml

_LOG_MEMBERS: Final = ("input", "policy_input")  # in OPA's decision log, and in the ledger's


class InputsError(StartError):
    """The text has a line for each fault."""


def load_inputs(path: Path, now: datetime) -> list[dict[str, Any]]:
    """One input or a list, in YAML or JSON, or one JSON object per line. Raises InputsError.

    An object may be an entry of a decision log. ``context`` may lack ``time`` (now is used), ``method``
    and ``decision_id``.
    """
    try:
        content = _to_text(_parse_inputs(path.read_text(encoding="utf-8")))
    except OSError as exc:
        raise InputsError(f"{path}: cannot be read: {exc.strerror}") from exc
    except (ValueError, RecursionError) as exc:
        raise InputsError(f"{path}: {exc}") from exc
    documents = [_complete(each, now) for each in (content if isinstance(content, list) else [content])]
    faults = [
        f"  - input {number}: {fault}"
        for number, document in enumerate(documents, start=1)
        for fault in _find_faults(document)
    ]
    if faults or not documents:
        raise InputsError("\n".join([f"{path}:", *(faults or ["  - holds no inputs"])]))
    return documents


def _parse_inputs(text: str) -> Any:
    try:
        return read_json(text)
    except ValueError:
        lines = [line for line in text.splitlines() if line.strip()]
        if len(lines) > 1 and all(line.startswith("{") for line in lines):
            return [read_json(line) for line in lines]
    return read_yaml(text)


def _to_text(value: Any) -> Any:
    """Undo Unquoted: an input has no numbers, dates or booleans."""
    match value:
        case Unquoted():
            return value.text
        case dict():
            return {key: _to_text(each) for key, each in value.items()}
        case list():
            return [_to_text(each) for each in value]
    return value


def _complete(entry: Any, now: datetime) -> Any:
    if not isinstance(entry, dict):
        return entry
    for key in _LOG_MEMBERS:
        if isinstance(entry.get(key), dict):
            entry = entry[key]
    if not isinstance(context := entry.get("context"), dict):
        return entry
    defaults = {"time": utc_seconds(now), "method": "", "decision_id": ""}
    return {**entry, "context": defaults | context}


def _find_faults(document: Any) -> list[str]:
    errors = sorted(_validator().iter_errors(document), key=lambda error: str(error.json_path))
    return [f"{error.json_path.removeprefix('$.')}: {error.message:.200}" for error in errors]


@cache
def _validator() -> jsonschema.Draft7Validator:
    text = (files("eksgateway.policy") / "input.schema.json").read_text(encoding="utf-8")
    return jsonschema.Draft7Validator(json.loads(text))
