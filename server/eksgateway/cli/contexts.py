"""The file of contexts: gateways by name, as kubectl has them for clusters.

current: prod
contexts:
  prod: {address: gateway.example:443, token_file: /run/token}
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from eksgateway.cli.connection_settings import NAMES, ConnectionSettings, Naming, split_command
from eksgateway.cli.exit_codes import CommandError
from eksgateway.cli.strict_mapping import (
    ContextFault,
    boolean_of,
    check_key,
    compose,
    members,
    refuse,
    text_of,
    texts_of,
)
from eksgateway.client.addresses import check_address

_SETTINGS: Final = tuple(name for name in NAMES if name != "token")  # a file of a token, never the token
_FILES: Final = ("ca", "certificate", "key", "token_file")


@dataclass(slots=True)
class Contexts:
    """The content of the file at ``path``. ``current`` may be empty."""

    path: Path
    current: str = ""
    by_name: dict[str, ConnectionSettings] = field(default_factory=dict)
    lines: dict[tuple[str, str], int] = field(default_factory=dict)  # by context and setting

    def get(self, name: str) -> ConnectionSettings:
        """Raises CommandError for an unknown name."""
        if name in self.by_name:
            return self.by_name[name]
        known = f"known are {', '.join(self.by_name)}" if self.by_name else "it has none"
        raise CommandError(
            f"there is no context {name!r} in {self.path}: {known}; `eksgateway context add` adds one"
        )

    def find(self, name: str) -> ConnectionSettings:
        """As ``get``. Raises CommandError also if a file that the context names does not exist."""
        context = self.get(name)
        for setting in _FILES:
            file = getattr(context, setting)
            if file is not None and _is_missing(file):
                raise CommandError(
                    f"{self.path}: line {self.lines[name, setting]}: `{setting}` of context `{name}`: there"
                    f" is no file {file}: correct the path, or create it"
                )
        return context

    def write(self) -> None:
        """Replace the file in one step. Comments in it are lost."""
        content: dict[str, Any] = {"current": self.current} if self.current else {}
        content["contexts"] = {name: _to_yaml(context) for name, context in self.by_name.items()}
        target = self.path.resolve()  # a link into a folder of dot files stays one
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            handle, beside = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                yaml.safe_dump(content, file, sort_keys=False, allow_unicode=True)
            Path(beside).replace(target)
        except OSError as exc:
            raise CommandError(f"{self.path}: cannot be written: {exc.strerror}") from exc


def expand_home(path: Path) -> Path:
    """The path as it is where ``~`` names an unknown user."""
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def contexts_path(environment: Mapping[str, str]) -> Path:
    if given := environment.get("EKSGATEWAY_CONFIG"):
        return expand_home(Path(given)).absolute()
    base = environment.get("XDG_CONFIG_HOME", "")
    folder = Path(base) if base else Path(environment.get("HOME") or Path.home()) / ".config"
    return folder / "eksgateway" / "config.yaml"


def read_contexts(environment: Mapping[str, str]) -> Contexts:
    """A file that does not exist has no contexts, unless EKSGATEWAY_CONFIG names it. Raises CommandError."""
    path = contexts_path(environment)
    try:
        return _parse(path, path.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        if environment.get("EKSGATEWAY_CONFIG"):
            remedy = "create it with `eksgateway context add`, or unset EKSGATEWAY_CONFIG"
            raise MissingContexts(f"{path}: there is no such file: {remedy}") from exc
        return Contexts(path)
    except OSError as exc:
        raise CommandError(f"{path}: cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise CommandError(f"{path}: is not text in UTF-8") from exc
    except ContextFault as exc:
        raise CommandError(f"{path}: {exc}") from exc


def contexts_to_change(environment: Mapping[str, str]) -> Contexts:
    """As ``read_contexts``; a file that does not exist has no contexts."""
    try:
        return read_contexts(environment)
    except MissingContexts:
        return Contexts(contexts_path(environment))


class MissingContexts(CommandError):
    """EKSGATEWAY_CONFIG names a file that does not exist."""


def _parse(path: Path, text: str) -> Contexts:
    root = compose(text)
    found = Contexts(path)
    if root is None:
        return found
    current = None
    for key, key_node, value in members(root, "the file"):
        check_key(key_node, key, ("current", "contexts"), "the file")
        if key == "current":
            found.current, current = text_of(value, "`current`"), value
        else:
            for name, _, context in members(value, "`contexts`"):
                found.by_name[name] = _parse_context(found, name, context)
    if current is not None and found.current not in found.by_name:
        remedy = f"known are {', '.join(found.by_name)}" if found.by_name else "the file has none"
        refuse(current, f"`current` names no context: {remedy}")
    return found


def _parse_context(found: Contexts, name: str, node: yaml.Node) -> ConnectionSettings:
    what = f"context `{name}`"
    values: dict[str, Any] = {}
    for key, key_node, value in members(node, what):
        setting = f"`{key}` of {what}"
        if key == "token":
            refuse(key_node, f"{setting}: a token does not belong here: write it to a file, and `token_file`")
        check_key(key_node, key, _SETTINGS, what)
        found.lines[name, key] = key_node.start_mark.line + 1
        if key == "plaintext":
            values[key] = boolean_of(value, setting)
        elif key == "token_command":
            values[key] = _parse_command(value, setting)
        elif key == "address":
            values[key] = _parse_address(value, setting)
        else:
            values[key] = found.path.parent / expand_home(Path(text_of(value, setting)))
    if "address" not in values:
        refuse(node, f"{what} has no `address`: write `address: host:port`")
    context = ConnectionSettings(**values)
    try:
        context.check(Naming("`", "`"))
    except CommandError as exc:
        refuse(node, f"{what}: {exc}")
    return context


def _parse_address(node: yaml.Node, setting: str) -> str:
    try:
        return check_address(text_of(node, setting))
    except ValueError as exc:
        refuse(node, f"{setting}: {exc}")


def _parse_command(node: yaml.Node, setting: str) -> tuple[str, ...]:
    words = texts_of(node, setting)
    if words is not None:
        return tuple(words)
    try:
        return split_command(text_of(node, setting), setting)
    except CommandError as exc:
        refuse(node, str(exc))


def _is_missing(file: Path) -> bool:
    """False where the folder cannot be read: reading the file has the cause."""
    try:
        return not file.exists()
    except OSError:
        return False


def _to_yaml(context: ConnectionSettings) -> dict[str, Any]:
    values = {name: getattr(context, name) for name in _SETTINGS if getattr(context, name)}
    return {
        name: str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value
        for name, value in values.items()
    }
