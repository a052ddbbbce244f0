"""Reads the data of the policy commands, by its path or by a gateway's settings, and a time."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import typer

from eksgateway.policy.source import Content, load_content
from eksgateway.settings import SettingsError, WasmPolicySettings, load


def load_named_content(data: Path | None, config: Path | None) -> Content:
    """Raises SettingsError and PolicyDataError."""
    if data is None and config is not None:
        settings = load(config).policy
        data = settings.data if isinstance(settings, WasmPolicySettings) else None
    if data is None:
        raise SettingsError("no policy data: give --data PATH, or --config FILE with `policy.data`")
    return load_content(data)


def read_time(text: str) -> datetime:
    """Now for an empty text. Raises typer.BadParameter."""
    if not text:
        return datetime.now(UTC)
    try:
        time: datetime | None = datetime.fromisoformat(text)
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise typer.BadParameter(
            f"{text!r} is no time with a zone; write it as in 2026-12-01T12:00:00Z", param_hint="--at"
        )
    return time.astimezone(UTC)
