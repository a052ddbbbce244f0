"""The ledger that a command names: a file, or --url and --schema."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import typer

from eksgateway.settings import PostgresLocation, SettingsError
from eksgateway.settings.postgres_url import SCHEMA_NAME, check_postgres_url


def locate(path: Path | None, url: str | None, schema: str) -> Path | PostgresLocation:
    """Raises SettingsError, and typer.BadParameter."""
    if path is not None and url is None:
        return path
    if path is None and url is not None:
        return locate_url(url, schema)
    raise typer.BadParameter("name either the ledger's file, or --url")


def locate_url(url: str, schema: str) -> PostgresLocation:
    """Raises SettingsError."""
    if find_spec("psycopg") is None:
        raise SettingsError("PostgreSQL needs psycopg: run pip install 'eksgateway[postgres]'")
    if not re.fullmatch(SCHEMA_NAME, schema):
        raise SettingsError(f"--schema {schema}: write up to 41 lower-case letters, digits and underscores")
    try:
        return PostgresLocation(check_postgres_url(url), schema)
    except ValueError as exc:
        raise SettingsError(f"--url: {exc}") from exc
