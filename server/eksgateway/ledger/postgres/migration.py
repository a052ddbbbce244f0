"""Creates or migrates a ledger in PostgreSQL, and grants the gateway's role its rights."""

from __future__ import annotations

import re
from typing import Final

from sqlalchemy import Connection, column, inspect, select, table, text

from eksgateway.ledger.database import LedgerError
from eksgateway.ledger.migrate import require_older, upgrade
from eksgateway.ledger.postgres.chain_lock import chain_lock_key
from eksgateway.ledger.postgres.privileges import FUNCTIONS, TABLES
from eksgateway.ledger.postgres.single_connection import connect, name_url
from eksgateway.ledger.schema import REVISION

_NAME: Final = re.compile("[a-z_][a-z0-9_]{0,40}")


def migrate_database(url: str, schema: str, role: str) -> str:
    """Migrate as the schema's owner, in one transaction; returns the revision found, empty for a new schema.

    Gateways may run meanwhile, and several of these. Raises LedgerError; then nothing is changed.
    """
    if not _NAME.fullmatch(schema):
        raise LedgerError(f"--schema {schema}: use at most 41 lower-case letters, digits and _")
    name = f"{name_url(url)}, schema {schema}"
    with connect(url) as connection, connection.begin():
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": chain_lock_key(schema)})
        _require_role(connection, name, role)
        if not inspect(connection).has_schema(
            schema
        ):  # IF NOT EXISTS needs the right to create it all the same
            connection.exec_driver_sql(f'CREATE SCHEMA "{schema}"')
        found = _read_revision(connection, name, schema)
        if found != REVISION:
            if found:
                require_older(found, name)
            upgrade(connection, schema)
        _grant(connection, schema, role)
    return found


def _require_role(connection: Connection, name: str, role: str) -> None:
    row = connection.execute(text("SELECT FROM pg_roles WHERE rolname = :role"), {"role": role}).one_or_none()
    if row is None:
        raise LedgerError(
            f"{name}: there is no role {role!r} for the gateway: create it (CREATE ROLE {_quote(role)}"
            " LOGIN), or name another one with --role"
        )


def _read_revision(connection: Connection, name: str, schema: str) -> str:
    tables = inspect(connection).get_table_names(schema)
    if not tables:
        return ""
    rows: list[str] = []
    if "alembic_version" in tables:
        version = table("alembic_version", column("version_num"), schema=schema)
        rows = list(connection.execute(select(version.c.version_num)).scalars())
    if len(rows) != 1 or (rows[0] == REVISION and "events" not in tables):
        raise LedgerError(f"{name}: the schema has tables, and they are no ledger: name another --schema")
    return rows[0]


def _grant(connection: Connection, schema: str, role: str) -> None:
    """The rights of ``privileges``, and no others. The owner's own role keeps all."""
    if connection.exec_driver_sql("SELECT current_user").scalar_one() == role:
        return
    to = _quote(role)
    statements = [
        f'REVOKE ALL ON ALL TABLES IN SCHEMA "{schema}" FROM PUBLIC, {to}',
        f'REVOKE ALL ON ALL FUNCTIONS IN SCHEMA "{schema}" FROM PUBLIC, {to}',
        f'REVOKE ALL ON SCHEMA "{schema}" FROM PUBLIC, {to}',
        f'GRANT USAGE ON SCHEMA "{schema}" TO {to}',
        *(f'GRANT {", ".join(rights)} ON "{schema}".{table} TO {to}' for table, rights in TABLES.items()),
        *(f'GRANT EXECUTE ON FUNCTION "{schema}".{function} TO {to}' for function in FUNCTIONS),
    ]
    for statement in statements:
        connection.exec_driver_sql(statement)


def _quote(role: str) -> str:
    return '"' + role.replace('"', '""') + '"'
