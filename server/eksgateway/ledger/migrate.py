"""Brings a database to this version's schema at start; refuses what this version does not know."""

from __future__ import annotations

import threading
from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text

from eksgateway.ledger.schema import REVISION
from eksgateway.ledger.sqlite import LedgerError

_ONE_AT_A_TIME = threading.Lock()  # alembic keeps the migration under way in module globals


def migrate(engine: Engine, path: Path) -> None:
    """Migrates in one transaction, so that half a migration never stays. Raises LedgerError."""
    with engine.connect() as connection:
        found = stored_revision(connection, path)
    if found != REVISION:
        with _ONE_AT_A_TIME, engine.begin() as connection:
            _upgrade(connection, found, path)


def stored_revision(connection: Connection, path: Path) -> str | None:
    """The schema's revision, None for an empty database. Raises LedgerError for one of others."""
    tables = inspect(connection).get_table_names()
    if "alembic_version" in tables and "events" in tables:
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    if tables:
        raise LedgerError(f"{path}: this database is not a ledger: set `ledger.path` to a new file")
    return None


def _upgrade(connection: Connection, found: str | None, path: Path) -> None:
    # Imported here because a start with nothing to migrate, which is nearly every one, needs none of it.
    from alembic import command  # noqa: PLC0415 (see above)
    from alembic.config import Config  # noqa: PLC0415 (see above)
    from alembic.script import ScriptDirectory  # noqa: PLC0415 (see above)

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", "eksgateway.ledger:migrations")
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found is not None and found not in known:
        raise LedgerError(
            f"{path}: this ledger was written by a newer version (schema {found}, and this version"
            f" knows up to {REVISION}): install that version, or set `ledger.path` to another file"
        )
    command.upgrade(config, "head")
