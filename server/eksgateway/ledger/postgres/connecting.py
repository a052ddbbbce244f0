"""Opens connections to PostgreSQL.

Nothing lives in a session, because a pooler gives each transaction another one: no options at the start, no
prepared statements.
"""

from __future__ import annotations

from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from eksgateway.ledger.database import LedgerError
from eksgateway.settings import PostgresLocation

# A URL may set others.
_DEFAULTS: Final[dict[str, Any]] = {
    "connect_timeout": 2,
    "tcp_user_timeout": 5000,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "target_session_attrs": "read-write",
    "application_name": "eksgateway",
    "client_encoding": "UTF8",
}


def conninfo(location: PostgresLocation, **parameters: str) -> str:
    """The connection string for libpq. ``parameters`` are defaults, which the URL may override.

    Raises LedgerError, without the URL's password in its text.
    """
    try:
        return make_conninfo(**_DEFAULTS | parameters | conninfo_to_dict(location.url))
    except psycopg.Error:  # its text may have the password
        raise LedgerError(
            f"{location}: libpq cannot read this URL: write it as postgresql://user@host:port/database, with"
            " %-escapes for special characters"
        ) from None


def connect(location: PostgresLocation, **parameters: str) -> psycopg.Connection:
    """Connect in autocommit mode: statements begin transactions. Raises psycopg.Error, LedgerError."""
    return psycopg.connect(conninfo(location, **parameters), autocommit=True, prepare_threshold=None)
