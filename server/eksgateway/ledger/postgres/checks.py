"""The checks of a gateway's start on PostgreSQL. They change nothing."""

from __future__ import annotations

from typing import Any, Final

import psycopg
from psycopg import sql
from psycopg.rows import namedtuple_row

from eksgateway.ledger.database import LedgerError
from eksgateway.ledger.postgres.append_only import find_weakness
from eksgateway.ledger.postgres.revision import describe_migrate
from eksgateway.ledger.postgres.role_checks import check_role
from eksgateway.logs import Log
from eksgateway.settings import LedgerSettings, PostgresLocation

log = Log(__name__)

_LEAST_VERSION: Final = 15

# ``connections``: how many this role may have in this database. Aurora's storage needs neither fsync nor full
# pages, and its users cannot set them.
_SERVER: Final = """
SELECT current_setting('server_version') AS version,
    current_setting('server_version_num')::int / 10000 AS major,
    current_setting('server_encoding') AS encoding,
    aurora OR current_setting('fsync') = 'on' AS fsync,
    aurora OR current_setting('full_page_writes') = 'on' AS full_page_writes,
    current_setting('DateStyle') AS date_style,
    current_setting('default_transaction_isolation') AS isolation,
    current_user AS role,
    pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on' AS read_only,
    least(
        current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
            - coalesce(current_setting('reserved_connections', true)::int, 0),
        nullif(rolconnlimit, -1), nullif(datconnlimit, -1)) AS connections
FROM pg_roles, pg_database, (SELECT to_regproc('aurora_version') IS NOT NULL AS aurora) AS platform
WHERE rolname = current_user AND datname = current_database()
"""
_ALIVE: Final = "SELECT count(*) FROM {} WHERE seen_at > clock_timestamp() - interval '10 s'"


def check_database(connection: psycopg.Connection[Any], settings: LedgerSettings) -> None:
    """Raises LedgerError for a server, schema or role with which a gateway cannot work, and psycopg.Error.

    Logs a warning where it can work, but not as it should.
    """
    location = PostgresLocation(settings.url or "", settings.schema_name)
    with connection.cursor(row_factory=namedtuple_row) as cursor:
        server = cursor.execute(_SERVER).fetchone()
    if fault := _find_fault(server, settings.connections) or _find_session_fault(server):
        raise LedgerError(f"{location}: {fault}")
    check_role(connection, location)
    if reason := find_weakness(connection, location.schema):
        log.warning("ledger.events_can_be_changed", reason=reason, hint=describe_migrate(location))
    _warn_of_few_connections(connection, settings, server)


def _find_fault(server: Any, connections: int) -> str:
    if server.major < _LEAST_VERSION:
        return f"PostgreSQL {server.version} is too old: use {_LEAST_VERSION} or newer"
    if server.read_only:
        return "this is a standby, or read-only: let `ledger.url` lead to the primary"
    if server.encoding != "UTF8":
        return f"the database's encoding is {server.encoding}: create it with ENCODING 'UTF8'"
    for setting in ("fsync", "full_page_writes"):
        if not getattr(server, setting):
            return f"{setting} is off, so a crash loses commits: set {setting} = on in postgresql.conf"
    if connections > server.connections:
        return (
            f"a gateway needs {connections} connections (`ledger.connections`), and this role may have"
            f" {server.connections} here: raise max_connections, or the CONNECTION LIMIT of the role or"
            " database"
        )
    return ""


def _find_session_fault(server: Any) -> str:
    for setting, value, needed in (
        ("DateStyle", server.date_style, "ISO"),  # for psycopg
        ("default_transaction_isolation", server.isolation, "read committed"),  # of the fleet's statements
    ):
        if not value.startswith(needed):
            return f"{setting} is {value}: ALTER ROLE {server.role} SET {setting} = '{needed}'"
    return ""


def _warn_of_few_connections(
    connection: psycopg.Connection[Any], settings: LedgerSettings, server: Any
) -> None:
    """A gateway that died a moment ago counts as alive, so this is no error."""
    replicas = sql.Identifier(settings.schema_name, "replicas")
    (alive,) = connection.execute(sql.SQL(_ALIVE).format(replicas)).fetchall()[0]
    needed = settings.connections * (alive + 1)
    if needed > server.connections:
        log.warning(
            "ledger.few_connections",
            possible=server.connections,
            needed=needed,
            gateways=alive + 1,
            hint="raise max_connections of PostgreSQL, or lower `ledger.connections`",
        )
