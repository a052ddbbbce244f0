"""Reads a settings file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from eksgateway.errors import SettingsError
from eksgateway.settings.gateway import Settings
from eksgateway.settings.yaml_document import YamlDocument, YamlPath

# The tags of unions, which pydantic puts into the place of a fault.
_TAGS: Final = {"(text)", "(list)", "(wasm)", "(opa)"}
_MISSING: Final = {
    "policy": "no policy is configured: set `policy.data` to the path of the policy data",
    "policy.data": "the engine wasm needs `data`, the path of the policy data",
    "policy.opa": "the engine opa needs `opa.url`, the OPA server's address",
    "ledger": "no ledger is configured: set `ledger.path` to the path of its SQLite file, or `ledger.url`",
    "eks": "no target is configured: set `eks.targets` (account_id, region)",
}
_WRONG_TYPE: Final = {
    "extra_forbidden": "unknown setting: remove it or correct its spelling",
    "too_short": "name at least one",
    "tuple_type": "must be a list: write one, or remove this setting; see config.example.yaml",
    "model_type": "must be a mapping: write one, or remove this setting; see config.example.yaml",
}
_WRONG_FORM: Final = {
    "account_id": 'write the 12 digits in quotes, leading zeros too, for example "011122223333"',
    "external_id": "write 2 to 1,224 letters, digits or characters of _+=,.@:/-",
    "name": "write up to 32 lower-case letters, digits and hyphens, for example corp",
    "schema": "write up to 41 lower-case letters, digits and underscores, for example eksgateway",
    "region": "write a region of AWS, for example us-east-1",
    "trust_domain": "write a SPIFFE trust domain without spiffe://, for example corp.example",
    "url": "write scheme, host and port alone, for example http://127.0.0.1:8181",
}


def load(path: Path) -> Settings:
    """Raises SettingsError, with every fault and its place."""
    try:
        document = YamlDocument(path.read_text(encoding="utf-8"))
        faults = dict(document.odd_numbers())
    except OSError as exc:
        raise SettingsError(f"{path}: cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise SettingsError(f"{path}: is not UTF-8") from exc
    except ValueError as exc:
        raise SettingsError(f"{path}: {exc}") from exc
    if not isinstance(document.value, dict):
        raise SettingsError(f"{path}: must be a mapping of settings; see config.example.yaml")
    try:
        settings = Settings.model_validate(document.value, context={"base": path.resolve().parent})
    except ValidationError as exc:
        faults |= _explain(exc, document)
    if faults:
        lines = (f"  - {'.'.join(map(str, place)) or 'settings'}: {fault}" for place, fault in faults.items())
        raise SettingsError("\n".join([f"{path}:", *lines]))
    return settings


def _explain(exc: ValidationError, document: YamlDocument) -> dict[YamlPath, str]:
    errors: list[Any] = [
        error | {"loc": tuple(part for part in error["loc"] if part not in _TAGS)} for error in exc.errors()
    ]
    return {
        error["loc"]: _explain_one(error, document)
        for error in errors
        # pydantic calls a list too short when its only element has a fault
        if error["type"] != "too_short" or not any(_within(other["loc"], error["loc"]) for other in errors)
    }


def _within(inner: YamlPath, outer: YamlPath) -> bool:
    return len(inner) > len(outer) and inner[: len(outer)] == outer


def _explain_one(error: Any, document: YamlDocument) -> str:
    place = error["loc"]
    match error["type"]:
        case "missing":
            return _MISSING.get(".".join(map(str, place)), "is missing: set it")
        case "string_type" | "path_type" if hint := document.hint(place):
            return hint
        case "string_pattern_mismatch" if place[-1] in _WRONG_FORM:
            return _WRONG_FORM[place[-1]]
        case other:
            return _WRONG_TYPE.get(other, str(error["msg"]).removeprefix("Value error, "))
