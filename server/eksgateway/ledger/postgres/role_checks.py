"""Checks at a start that the gateway's role has its rights, and no others."""

from __future__ import annotations

from typing import Any, Final

import psycopg
from psycopg.rows import namedtuple_row

from eksgateway.ledger.database import LedgerError
from eksgateway.ledger.postgres.privileges import FUNCTIONS, TABLES
from eksgateway.ledger.postgres.revision import describe_migrate, require_usable
from eksgateway.logs import Log
from eksgateway.settings import PostgresLocation

log = Log(__name__)

_RIGHTS: Final = ["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"]
_MAINTAIN_VERSION: Final = 170_000

_ROLE: Final = """
SELECT rolname AS name, rolsuper AS superuser,
    has_schema_privilege(pg_namespace.oid, 'USAGE') AS usage,
    has_schema_privilege(pg_namespace.oid, 'CREATE') AS creates,
    pg_has_role(nspowner, 'MEMBER') AS owns
FROM pg_roles LEFT JOIN pg_namespace ON nspname = %s WHERE rolname = current_user
"""
_TABLES: Final = """
SELECT relname AS name, pg_has_role(relowner, 'MEMBER') AS owned,
    array(SELECT each FROM unnest(%s::text[]) AS each WHERE has_table_privilege(pg_class.oid, each)) AS rights
FROM pg_class WHERE relnamespace = to_regnamespace(%s) AND relkind IN ('r', 'p')
"""
_FUNCTIONS: Final = """
SELECT proname AS name, has_function_privilege(oid, 'EXECUTE') AS executes FROM pg_proc
WHERE pronamespace = to_regnamespace(%s)
"""


def check_role(connection: psycopg.Connection[Any], location: PostgresLocation) -> None:
    """Also check the schema's revision. Raises LedgerError; logs a warning of rights that are not needed."""
    (role,) = _read(connection, _ROLE, location.schema)
    rights = [*_RIGHTS, "MAINTAIN"] if connection.info.server_version >= _MAINTAIN_VERSION else _RIGHTS
    tables = {table.name: table for table in _read(connection, _TABLES, rights, location.schema)}
    functions = {each.name: each.executes for each in _read(connection, _FUNCTIONS, location.schema)}
    version = tables.get("alembic_version")
    if version is None or (role.usage and "SELECT" in version.rights):
        require_usable(connection, location)
    if removed := ", ".join(sorted(TABLES.keys() - tables)):
        raise LedgerError(
            f"{location}: the schema {location.schema} lacks {removed}: restore the database from a backup"
        )
    migrate = describe_migrate(location, f" --role {role.name}")
    if missing := ", ".join(name for name in FUNCTIONS if name not in functions):
        raise LedgerError(
            f"{location}: the schema {location.schema} lacks the function {missing}: {migrate}, which"
            " restores it"
        )
    if lacking := _find_lacking(role, tables, functions, location.schema):
        raise LedgerError(f"{location}: the role {role.name} lacks {lacking}: {migrate}, which grants it")
    if more := _find_more(role, tables):
        log.warning(
            "ledger.role_may_too_much",
            role=role.name,
            may=more,
            hint="use a role of its own for the gateways: `eksgateway ledger migrate` grants its rights",
        )


def _find_lacking(role: Any, tables: dict[str, Any], functions: dict[str, bool], schema: str) -> str:
    if not role.usage:
        return f"USAGE on the schema {schema}"
    lacking = [
        f"{right} on {name}"
        for name, rights in TABLES.items()
        for right in rights
        if right not in tables[name].rights
    ]
    return ", ".join(lacking + [f"EXECUTE on {name}" for name in FUNCTIONS if not functions[name]])


def _find_more(role: Any, tables: dict[str, Any]) -> str:
    if role.superuser:
        return "everything, as a superuser"
    if role.owns or any(table.owned for table in tables.values()):
        return "everything in the schema, as its owner"
    more = [
        f"{right} on {name}" for name in TABLES for right in tables[name].rights if right not in TABLES[name]
    ]
    return ", ".join([*more, *(["CREATE in the schema"] if role.creates else [])])


def _read(connection: psycopg.Connection[Any], statement: str, *parameters: object) -> list[Any]:
    with connection.cursor(row_factory=namedtuple_row) as cursor:
        return list(cursor.execute(statement.encode(), parameters))
