"""The settings of a connection, from options, from the environment or from a context."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Final

from eksgateway.cli.exit_codes import REFUSED, CommandError

PREFIX: Final = "EKSGATEWAY_"
_YES, _NO = ("1", "true", "yes"), ("0", "false", "no", "")


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    """None and the empty text mean that it is not set. ``plaintext`` is set by True only.

    Settings that contradict each other raise CommandError.
    """

    address: str = ""
    ca: Path | None = None
    plaintext: bool = False
    certificate: Path | None = None
    key: Path | None = None
    token: str = ""
    token_file: Path | None = None
    token_command: tuple[str, ...] = ()

    def check(self, name: Naming) -> None:
        """``name`` writes a setting as the user has set it, for example `--ca` for ca."""
        for one, other in (
            ("plaintext", "ca"),
            ("plaintext", "certificate"),
            ("token_file", "token_command"),
            ("token", "token_file"),
            ("token", "token_command"),
        ):
            if getattr(self, one) and getattr(self, other):
                raise CommandError(f"{name(one)} and {name(other)} contradict each other: give one of them")
        if (self.certificate is None) != (self.key is None):
            given, missing = ("certificate", "key") if self.key is None else ("key", "certificate")
            raise CommandError(f"{name(given)} needs {name(missing)}: give both")

    def over(self, lower: ConnectionSettings) -> ConnectionSettings:
        """These, and for each group that has none set, those of ``lower``."""
        changes = {
            each: getattr(lower, each)
            for group in _GROUPS
            if not any(getattr(self, each) for each in group)
            for each in group
        }
        return replace(self, **changes)

    def only_token(self) -> ConnectionSettings:
        return ConnectionSettings(**{name: getattr(self, name) for name in _GROUPS[-1]})


# Settings that belong together: a token is never taken from one place and its file from another.
_GROUPS: Final = (
    ("address",),
    ("ca", "plaintext"),
    ("certificate", "key"),
    ("token", "token_file", "token_command"),
)
NAMES: Final = tuple(each.name for each in fields(ConnectionSettings))


@dataclass(frozen=True, slots=True)
class Naming:
    """Writes the name of a setting where it was set."""

    before: str
    after: str = ""
    upper: bool = False
    dashes: bool = False

    def __call__(self, setting: str) -> str:
        name = setting.upper() if self.upper else setting
        return f"{self.before}{name.replace('_', '-') if self.dashes else name}{self.after}"


OPTIONS: Final = Naming("--", dashes=True)
VARIABLES: Final = Naming(PREFIX, upper=True)


def from_environment(environment: Mapping[str, str]) -> ConnectionSettings:
    """Raises CommandError for values that cannot be used."""
    value = {name: environment.get(VARIABLES(name), "") for name in NAMES}
    path = {name: Path(text) if (text := value[name]) else None for name in NAMES}
    if (plaintext := value["plaintext"].lower()) not in (*_YES, *_NO):
        raise CommandError(f"{VARIABLES('plaintext')}={plaintext}: must be 1 or 0")
    found = ConnectionSettings(
        address=value["address"],
        ca=path["ca"],
        plaintext=plaintext in _YES,
        certificate=path["certificate"],
        key=path["key"],
        token=value["token"],
        token_file=path["token_file"],
        token_command=split_command(value["token_command"], VARIABLES("token_command")),
    )
    found.check(VARIABLES)
    return found


def split_command(text: str, source: str, code: int = REFUSED) -> tuple[str, ...]:
    """The words of a command, as a shell would split it; nothing in them is expanded."""
    try:
        words = tuple(shlex.split(text))
    except ValueError as exc:
        raise CommandError(f"{source}: cannot be split into words: {exc}", code) from exc
    if text and not words:
        raise CommandError(f"{source}: is empty: name a program that prints a token", code)
    return words
