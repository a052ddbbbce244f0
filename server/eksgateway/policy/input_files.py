"""Policy inputs from files, to try a policy on: hand-written, or as a decision log holds them."""

from __future__ import annotations

import json
from datetime import datetime
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import jsonschema

from eksgateway.errors import StartError
from eksgateway.policy.documents import Unquoted, read_json, read_yaml
from eksgateway.policy.question import utc_seconds

# Where a log keeps the input that it has logged: OPA's decision log, this gateway's ledger.
_LOGGED: Final = ("input", "policy_input")


class InputsError(StartError):
    """A file without inputs that can be used; the text has a line for each fault."""


def load_inputs(path: Path, now: datetime) -> list[dict[str, Any]]:
    """The inputs in a file: one, or a list, in YAML or JSON; or a JSON object a line. Raises InputsError.

    An object that holds its input under ``input`` or ``policy_input`` is a log's. What a hand-written
    ``context`` may leave out is filled in: ``time`` (now), ``method`` and ``decision_id``.
    """
    try:
        found = _plain(_read(path.read_text(encoding="utf-8")))
    except OSError as exc:
        raise InputsError(f"{path}: cannot be read: {exc.strerror}") from exc
    except (ValueError, RecursionError) as exc:
        raise InputsError(f"{path}: {exc}") from exc
    documents = [_completed(each, now) for each in (found if isinstance(found, list) else [found])]
    faults = [
        f"  - input {number}: {fault}"
        for number, document in enumerate(documents, start=1)
        for fault in _faults(document)
    ]
    if faults or not documents:
        raise InputsError("\n".join([f"{path}:", *(faults or ["  - holds no inputs"])]))
    return documents


def _read(text: str) -> Any:
    """JSON, JSON lines, or YAML: the first that it is."""
    lines = [line for line in text.splitlines() if line.strip()]
    try:
        return read_json(text)
    except ValueError:
        if len(lines) > 1 and all(line.startswith("{") for line in lines):
            return [read_json(line) for line in lines]
    return read_yaml(text)


def _plain(value: Any) -> Any:
    """Whatever stands there without quotes is text: an input has no numbers, dates or booleans."""
    match value:
        case Unquoted():
            return value.text
        case dict():
            return {key: _plain(each) for key, each in value.items()}
        case list():
            return [_plain(each) for each in value]
    return value


def _completed(entry: Any, now: datetime) -> Any:
    if not isinstance(entry, dict):
        return entry
    for key in _LOGGED:
        if isinstance(entry.get(key), dict):
            entry = entry[key]
    if not isinstance(context := entry.get("context"), dict):
        return entry
    defaults = {"time": utc_seconds(now), "method": "", "decision_id": ""}
    return {**entry, "context": defaults | context}


def _faults(document: Any) -> list[str]:
    errors = sorted(_validator().iter_errors(document), key=lambda error: str(error.json_path))
    return [f"{error.json_path.removeprefix('$.')}: {error.message:.200}" for error in errors]


@cache
def _validator() -> jsonschema.Draft7Validator:
    text = (files("eksgateway.policy") / "input.schema.json").read_text(encoding="utf-8")
    return jsonschema.Draft7Validator(json.loads(text))
