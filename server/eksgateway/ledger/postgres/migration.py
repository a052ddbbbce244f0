"""Creates or migrates a ledger in PostgreSQL, and grants the gateway's role its rights."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, NamedTuple

import psycopg
from psycopg import sql

from eksgateway.ledger.database import LedgerError
from eksgateway.ledger.migrate import REVISION, require_older, upgrade
from eksgateway.ledger.postgres.append_only import protect_events
from eksgateway.ledger.postgres.owner import begin_change, raw_connection
from eksgateway.ledger.postgres.privileges import grant
from eksgateway.ledger.postgres.revision import read_revision
from eksgateway.settings import PostgresLocation

_ROLE_EXISTS: Final = "SELECT FROM pg_roles WHERE rolname = %s"
_COULD_CHANGE_ALL: Final = """
SELECT rolsuper OR pg_has_role(rolname, nspowner, 'MEMBER') FROM pg_roles, pg_namespace
WHERE rolname = %s AND nspname = %s
"""
_IS_OWNER: Final = "SELECT pg_has_role(nspowner, 'MEMBER') FROM pg_namespace WHERE nspname = %s"
_LACKS_DRAW: Final = """
SELECT NOT EXISTS (SELECT FROM pg_proc WHERE proname = 'draw' AND pronamespace = to_regnamespace(%s))
"""
_DRAW: Final = Path(__file__).parents[1] / "migrations" / "versions" / "r0002_draw.sql"


class Migration(NamedTuple):
    """``before`` is the revision that was there, empty for a new ledger."""

    before: str
    role_could_change_all: bool


def migrate_database(location: PostgresLocation, role: str) -> Migration:
    """Migrate as the owner, in one transaction; also restore the trigger, ``draw`` and ``role``'s rights.

    Gateways may run meanwhile, and several of these. Raises LedgerError; then nothing is changed.
    """
    with begin_change(location) as connection:
        raw = raw_connection(connection)
        if raw.execute(_ROLE_EXISTS, [role]).fetchone() is None:
            quoted = sql.Identifier(role).as_string()
            raise LedgerError(
                f"{location}: there is no role {role} for the gateways: create it (CREATE ROLE {quoted}"
                " LOGIN), or name another one with --role"
            )
        _create_schema(raw, location)
        found = read_revision(raw, location)
        if found != REVISION:
            if found:
                require_older(found, location, instead="another database")
            upgrade(connection, location.schema)
        elif raw.execute(_LACKS_DRAW, [location.schema]).fetchone() == (True,):
            raw.execute(_DRAW.read_bytes())
        protect_events(raw, location.schema)
        grant(raw, location.schema, role)
        (could,) = raw.execute(_COULD_CHANGE_ALL, [role, location.schema]).fetchall()[0]
    return Migration(found, could)


def _create_schema(connection: psycopg.Connection[Any], location: PostgresLocation) -> None:
    row = connection.execute(_IS_OWNER, [location.schema]).fetchone()
    if row is None:
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(location.schema)))
    elif not row[0]:
        raise LedgerError(
            f"{location}: this role does not own the schema {location.schema}: use a URL of its owner"
        )
