"""Migrates the schema of older ledgers, and refuses unknown ones."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from eksgateway.ledger.database import Connection, LedgerError, LedgerLocation

if TYPE_CHECKING:
    import sqlalchemy
    from alembic.config import Config

REVISION: Final = "0002"
"""Alembic's newest revision: a start with nothing to migrate loads neither alembic nor SQLAlchemy."""

EMPTY: Final = (
    "the file is empty, and a ledger never is. A copy of a ledger's main file that was made with cp while an"
    " early gateway ran looks like this: everything was in the -wal file beside it. Restore the ledger from a"
    " backup (`eksgateway ledger backup FILE COPY` makes one, also while a gateway runs); to begin a new"
    " ledger, remove the file"
)
# r0002 added columns that a reader of a file does not use.
_READABLE: Final = ("0001", REVISION)
_NO_REVISION: Final = (
    "the table alembic_version does not hold the one row that names the schema's revision: another"
    " program has changed the database; restore it from a backup"
)

_ALEMBIC_LOCK: Final = threading.Lock()  # alembic keeps the running migration in module globals


class NotMigrated(LedgerError):
    """The ledger has an older schema."""


def migrate(connection: Connection, path: Path) -> None:
    """Migrate a file. Raises LedgerError."""
    revision = _read_revision(connection, path)
    if revision != REVISION:
        require_older(revision, path)
        upgrade_file(connection)


def upgrade_file(connection: Any) -> None:
    """Run the missing migrations over a connection of sqlite3, in one transaction. Raises sqlite3.Error."""
    from sqlalchemy import StaticPool, create_engine  # noqa: PLC0415 (see ``REVISION``)
    from sqlalchemy.exc import DBAPIError  # noqa: PLC0415

    error: BaseException | None = None
    try:
        with create_engine("sqlite://", creator=lambda: connection, poolclass=StaticPool).begin() as migrated:
            migrated.exec_driver_sql("BEGIN IMMEDIATE")
            upgrade(migrated)
    except DBAPIError as exc:
        error = exc.orig
    if error is not None:
        raise error


def upgrade(connection: sqlalchemy.Connection, schema: str | None = None) -> None:
    """Run the missing migrations in the connection's transaction, so that half a migration never stays.

    ``schema`` is PostgreSQL's: it exists, and is the connection's search_path.
    """
    from alembic import command  # noqa: PLC0415 (see `_config`)

    config = _config()
    with _ALEMBIC_LOCK:
        config.attributes |= {"connection": connection, "schema": schema}
        command.upgrade(config, "head")


def require_readable(connection: Connection, path: Path) -> None:
    """Raises LedgerError for a schema that this version cannot read: NotMigrated for an older one."""
    revision = _read_revision(connection, path)
    if revision in _READABLE:
        return
    require_older(revision, path)
    raise NotMigrated(
        f"{path}: this ledger was written by an older version (schema {revision}, and this version's is"
        f" {REVISION}): start the gateway once to migrate it, or use the version that wrote it"
    )


def _read_revision(connection: Connection, path: Path) -> str:
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables:
        raise LedgerError(f"{path}: {EMPTY}")
    if "alembic_version" not in tables:
        if "events" in tables and "cancellations" in tables:
            raise LedgerError(f"{path}: {_NO_REVISION}")
        raise LedgerError(f"{path}: this database is not a ledger: set `ledger.path` to a new file")
    rows = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    revision = str(rows[0][0]) if len(rows) == 1 and rows[0][0] is not None else ""
    if not revision:
        raise LedgerError(f"{path}: {_NO_REVISION}")
    if revision == REVISION and "events" not in tables:
        raise LedgerError(
            f"{path}: this database is not a ledger, or its events were removed: set"
            " `ledger.path` to a new file, or restore it from a backup"
        )
    return revision


def require_older(
    revision: str, location: LedgerLocation, newest: str = REVISION, instead: str = "another file"
) -> None:
    """Raises LedgerError for a revision from which this version has no migration."""
    from alembic.script import ScriptDirectory  # noqa: PLC0415 (see `_config`)

    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if revision in known:
        return
    if re.fullmatch("[0-9]{4}", revision, re.ASCII) and revision > REVISION:
        raise LedgerError(
            f"{location}: this ledger was written by a newer version (schema {revision}, and this version"
            f" knows up to {newest}): use that version, or {instead}"
        )
    raise LedgerError(
        f"{location}: this version does not know the schema {revision!r} (its own is {REVISION}): the"
        f" database is not a ledger, or one of another version: use the version that wrote it, or {instead}"
    )


def _config() -> Config:
    from alembic.config import Config  # noqa: PLC0415 (slow; most starts have nothing to migrate)

    config = Config()
    config.set_main_option("script_location", "eksgateway.ledger:migrations")
    return config
