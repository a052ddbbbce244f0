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
from eksgateway.policy.edges import parse_time
from eksgateway.policy.question import age_at, posix_seconds, utc_seconds
from eksgateway.strict_json import read_json
from eksgateway.strict_yaml import Unquoted, read_yaml

_LOG_MEMBERS: Final = ("input", "policy_input")  # in OPA's decision log, and in the ledger's


class InputsError(StartError):
    """The text has a line for each fault."""


def load_inputs(path: Path, now: datetime) -> list[dict[str, Any]]:
    """One input or a list, in YAML or JSON, or one JSON object per line. Raises InputsError.

    An object may be an entry of a decision log. ``context`` may lack ``time`` (now is used), ``method``
    and ``decision_id``. ``complete_input`` adds the rest.
    """
    try:
        content = _to_text(_parse_inputs(path.read_text(encoding="utf-8")))
    except OSError as exc:
        raise InputsError(f"{path}: cannot be read: {exc.strerror}") from exc
    except (ValueError, RecursionError) as exc:
        raise InputsError(f"{path}: {exc}") from exc
    documents = [_to_input(each, now) for each in (content if isinstance(content, list) else [content])]
    faults = [
        f"  - input {number}: {fault}"
        for number, document in enumerate(documents, start=1)
        for fault in _find_faults(document)
    ]
    if faults or not documents:
        raise InputsError("\n".join([f"{path}:", *(faults or ["  - holds no inputs"])]))
    return documents


def complete_input(document: dict[str, Any]) -> dict[str, Any]:
    """An input of an earlier version or one written by hand, with what the policy reads today.

    ``context.seconds`` and ``update.age_s`` follow from ``time`` and ``created_at``, whatever the document
    has. ``claims`` default to none. Members that do not have their form are left as they are.
    """
    subject, resource, context = (_member(document, name) for name in ("subject", "resource", "context"))
    about, facts = _member(subject, "properties"), _member(resource, "properties")
    time = parse_time(context.get("time"))
    changes: dict[str, Any] = {}
    if "properties" in subject:
        changes["subject"] = {**subject, "properties": {"claims": {}, **about}}
    if time is not None:
        changes["context"] = {**context, "seconds": posix_seconds(time)}
        if update := _member(facts, "update"):
            age_s = age_at(time, parse_time(update.get("created_at")))
            changes["resource"] = {**resource, "properties": {**facts, "update": {**update, "age_s": age_s}}}
    return {**document, **changes}


def _member(document: dict[str, Any], name: str) -> dict[str, Any]:
    value = document.get(name)
    return value if isinstance(value, dict) else {}


def _parse_inputs(text: str) -> Any:
    try:
        return read_json(text)
    except ValueError:
        lines = [line for line in text.splitlines() if line.strip()]
        if len(lines) > 1 and all(line.startswith("{") for line in lines):
            return [read_json(line) for line in lines]
    return read_yaml(text)


def _to_text(value: Any) -> Any:
    """Undo Unquoted: apart from ``seconds`` and ``age_s``, which are computed, all values are texts."""
    match value:
        case Unquoted():
            return value.text
        case dict():
            return {key: _to_text(each) for key, each in value.items()}
        case list():
            return [_to_text(each) for each in value]
    return value


def _to_input(entry: Any, now: datetime) -> Any:
    if not isinstance(entry, dict):
        return entry
    for key in _LOG_MEMBERS:
        if isinstance(entry.get(key), dict):
            entry = entry[key]
    if not isinstance(context := entry.get("context"), dict):
        return entry
    defaults = {"time": utc_seconds(now), "method": "", "decision_id": ""}
    return complete_input({**entry, "context": defaults | context})


def _find_faults(document: Any) -> list[str]:
    if isinstance(document, dict) and (context := _member(document, "context")):
        time = context.get("time")
        if parse_time(time) is None:
            return [f"context.time: {time!r:.200} is not a time: write it as 2026-12-01T12:00:00Z"]
    errors = sorted(_validator().iter_errors(document), key=lambda error: str(error.json_path))
    return [f"{error.json_path.removeprefix('$.')}: {error.message:.200}" for error in errors]


@cache
def _validator() -> jsonschema.Draft7Validator:
    text = (files("eksgateway.policy") / "input.schema.json").read_text(encoding="utf-8")
    return jsonschema.Draft7Validator(json.loads(text))
