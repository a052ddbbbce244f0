"""Which revision a ledger's schema in PostgreSQL has, and whether this version works with it."""

from __future__ import annotations

from typing import Any, Final

import psycopg
from psycopg import sql

from eksgateway.ledger.database import LedgerError
from eksgateway.ledger.migrate import REVISION, NotMigrated, require_older
from eksgateway.settings import PostgresLocation

# Each revision works with the version before it, so that gateways are replaced one by one.
NEXT_REVISION: Final = f"{int(REVISION) + 1:04}"

_TABLES: Final = """
SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace(%s) AND relkind IN ('r', 'p', 'v')
"""


def read_revision(connection: psycopg.Connection[Any], location: PostgresLocation) -> str:
    """Empty for a schema that is missing or has no tables. Raises LedgerError for one that is no ledger."""
    tables = {row[0] for row in connection.execute(_TABLES, [location.schema])}
    if not tables:
        return ""
    revisions: list[str] = []
    if "alembic_version" in tables:
        table = sql.Identifier(location.schema, "alembic_version")
        rows = connection.execute(sql.SQL("SELECT version_num FROM {}").format(table))
        revisions = [row[0] for row in rows]
    if len(revisions) != 1 or "events" not in tables:
        raise LedgerError(
            f"{location}: the schema {location.schema} has tables that are no ledger: name another schema, or"
            " restore the ledger from a backup"
        )
    return revisions[0]


def require_usable(connection: psycopg.Connection[Any], location: PostgresLocation) -> None:
    """Raises LedgerError for a schema with which this version does not work: NotMigrated for an older one."""
    revision = read_revision(connection, location)
    if revision in (REVISION, NEXT_REVISION):
        return
    if not revision:
        raise NotMigrated(
            f"{location}: there is no ledger in the schema {location.schema}: {describe_migrate(location)},"
            " or correct the URL or the schema"
        )
    require_older(revision, location, newest=NEXT_REVISION, instead="another database")
    raise NotMigrated(
        f"{location}: an older version made this ledger (schema {revision}, and this version's is"
        f" {REVISION}): {describe_migrate(location)}"
    )


def describe_migrate(location: PostgresLocation, options: str = "") -> str:
    schema = "" if location.schema == "eksgateway" else f" --schema {location.schema}"
    return f"run `eksgateway ledger migrate --url OWNER_URL{schema}{options}`"
