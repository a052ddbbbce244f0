"""The rights of the gateway's role: what `migrate` grants, and a start requires."""

from __future__ import annotations

from typing import Any, Final

import psycopg
from psycopg import sql

TABLES: Final[dict[str, tuple[str, ...]]] = {
    "alembic_version": ("SELECT",),
    "events": ("SELECT", "INSERT"),
    "cancellations": ("SELECT", "INSERT", "UPDATE"),
    "decisions": ("SELECT", "INSERT", "DELETE"),
    "replicas": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "looks": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "budget": ("SELECT", "INSERT", "UPDATE"),
}
FUNCTIONS: Final = ("draw",)


def grant(connection: psycopg.Connection[Any], schema: str, role: str) -> None:
    """Exactly these rights. The owner's own role keeps all."""
    if connection.execute("SELECT current_user = %s", [role]).fetchone() == (True,):
        return
    statements = [
        "REVOKE ALL ON ALL TABLES IN SCHEMA {schema} FROM PUBLIC, {role}",
        "REVOKE ALL ON ALL FUNCTIONS IN SCHEMA {schema} FROM PUBLIC, {role}",
        "REVOKE ALL ON SCHEMA {schema} FROM PUBLIC, {role}",
        "GRANT USAGE ON SCHEMA {schema} TO {role}",
        *(f"GRANT {', '.join(rights)} ON {{schema}}.{table} TO {{role}}" for table, rights in TABLES.items()),
        *(f"GRANT EXECUTE ON FUNCTION {{schema}}.{function} TO {{role}}" for function in FUNCTIONS),
    ]
    for statement in statements:
        names = {"schema": sql.Identifier(schema), "role": sql.Identifier(role)}
        connection.execute(sql.SQL(statement).format(**names))
