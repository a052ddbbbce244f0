"""Makes new databases, and brings old ones to this version's schema at start; refuses what this version
does not know.
"""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.exc import SQLAlchemyError

from eksgateway.ledger.schema import REVISION
from eksgateway.ledger.sqlite import LedgerError, explain, open_engine

if TYPE_CHECKING:
    from alembic.config import Config


class NotMigrated(LedgerError):
    """A ledger of an older version's schema."""


_ONE_AT_A_TIME = threading.Lock()  # alembic keeps the migration under way in module globals
_TIMEOUT_S = 3.0


def create(path: Path) -> None:
    """Make a new, empty ledger, which is there as a whole or not at all. Raises LedgerError.

    So a file at a ledger's path that has no tables is one that has lost them.
    """
    unfinished = path.with_name(path.name + ".new")
    try:
        for old in (unfinished, unfinished.with_name(unfinished.name + "-wal")):
            old.unlink(missing_ok=True)
        os.close(os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        engine = open_engine(unfinished, "write", timeout_s=_TIMEOUT_S)
        try:
            with _ONE_AT_A_TIME, engine.begin() as connection:
                _upgrade(connection)
        finally:
            engine.dispose()  # the last connection copies all into the main file
        unfinished.rename(path)
        sync_folder(path.parent)
    except OSError as exc:
        raise LedgerError(
            f"{path}: {exc.strerror}: the ledger must be a file that this process can read and write"
        ) from exc
    except SQLAlchemyError as exc:
        raise LedgerError(f"{path}: {explain(exc)}") from exc


def migrate(engine: Engine, path: Path) -> None:
    """Migrates in one transaction, so that half a migration never stays. Raises LedgerError."""
    with engine.connect() as connection:
        found = stored_revision(connection, path)
    if found == REVISION:
        return
    _require_older(found, path)
    with _ONE_AT_A_TIME, engine.begin() as connection:
        _upgrade(connection)


def require_current(connection: Connection, path: Path) -> None:
    """Raises LedgerError for a ledger of another version's schema, NotMigrated for one of an older."""
    found = stored_revision(connection, path)
    if found == REVISION:
        return
    _require_older(found, path)
    raise NotMigrated(
        f"{path}: this ledger was written by an older version (schema {found}, and this version's is"
        f" {REVISION}): start the gateway once to migrate it, or use the version that wrote it"
    )


def stored_revision(connection: Connection, path: Path) -> str:
    """The schema's revision. Raises LedgerError for a database without one."""
    tables = inspect(connection).get_table_names()
    if not tables:
        raise LedgerError(f"{path}: {EMPTY}")
    if "alembic_version" not in tables:
        if "events" in tables and "cancellations" in tables:
            raise LedgerError(f"{path}: {_UNNAMED}")
        raise LedgerError(f"{path}: this database is not a ledger: set `ledger.path` to a new file")
    rows = connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all()
    found = str(rows[0]) if len(rows) == 1 and rows[0] is not None else ""
    if not found:
        raise LedgerError(f"{path}: {_UNNAMED}")
    if found == REVISION and "events" not in tables:
        raise LedgerError(
            f"{path}: this database is not a ledger, or its events were removed: set"
            " `ledger.path` to a new file, or restore it from a backup"
        )
    return found


EMPTY = (
    "the file is empty, and a ledger never is. A copy of a ledger's main file that was made with cp while an"
    " early gateway ran looks like this: everything was in the -wal file beside it. Restore the ledger from a"
    " backup (`eksgateway ledger backup FILE COPY` makes one, also while a gateway runs); to begin a new"
    " ledger, remove the file"
)
_UNNAMED = (
    "the table alembic_version does not hold the one row that names the schema's revision: another"
    " program has changed the database; restore it from a backup"
)


def _require_older(found: str, path: Path) -> None:
    """Raises LedgerError for a revision that this version has no migration from."""
    from alembic.script import ScriptDirectory  # noqa: PLC0415 (see `_config`)

    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if found in known:
        return
    if re.fullmatch("[0-9]{4}", found, re.ASCII) and found > REVISION:
        raise LedgerError(
            f"{path}: this ledger was written by a newer version (schema {found}, and this version knows up"
            f" to {REVISION}): use that version, or set `ledger.path` to another file"
        )
    raise LedgerError(
        f"{path}: this version does not know the schema {found!r} (its own is {REVISION}): the database is"
        " not a ledger, or one of another version: use the version that wrote it, or set `ledger.path` to"
        " another file"
    )


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _config() -> Config:
    # Imported here because a start with nothing to migrate, which is nearly every one, needs no alembic.
    from alembic.config import Config  # noqa: PLC0415 (see above)

    config = Config()
    config.set_main_option("script_location", "eksgateway.ledger:migrations")
    return config


def _upgrade(connection: Connection) -> None:
    from alembic import command  # noqa: PLC0415 (see `_config`)

    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
