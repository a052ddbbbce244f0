"""The arguments of the policy commands: the data, by its path or by a gateway's settings, and a time; and the
commands' exit codes.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import typer

from eksgateway.errors import StartError
from eksgateway.policy.engine import PolicyLoadError
from eksgateway.policy.files import PolicyFiles
from eksgateway.policy.source import PolicyDataError
from eksgateway.settings import SettingsError, WasmPolicySettings, load

REFUSED: Final = 1
UNUSABLE: Final = 2  # a file, a key or settings cannot be used


def report_unusable(error: StartError) -> int:
    """Print the error, and return UNUSABLE."""
    print(f"eksgateway: {error}", file=sys.stderr)
    return UNUSABLE


def describe_refusal(data: Path, error: PolicyLoadError) -> str:
    """The path and a line for each fault."""
    return str(error) if isinstance(error, PolicyDataError) else f"{data}:\n  - {error}"


def find_files(data: Path | None, config: Path | None, module: Path | None = None) -> PolicyFiles:
    """Arguments come before the settings in ``config``. Raises SettingsError."""
    settings = load(config).policy if config is not None else None
    if isinstance(settings, WasmPolicySettings):
        data, module = data or settings.data, module or settings.module
    if data is None:
        raise SettingsError("no policy data: give --data PATH, or --config FILE with `policy.data`")
    return PolicyFiles(data, module)


def read_time(text: str) -> datetime:
    """Now for an empty text. Raises typer.BadParameter."""
    if not text:
        return datetime.now(UTC)
    try:
        time = datetime.fromisoformat(text)
        if time.tzinfo is not None:
            return time.astimezone(UTC)
    except (ValueError, OverflowError):  # beyond the years 1 to 9999 in UTC
        pass
    raise typer.BadParameter(
        f"{text!r} is no time with a zone; write it as in 2026-12-01T12:00:00Z", param_hint="--at"
    )
