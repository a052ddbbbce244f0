"""Opens connections to PostgreSQL.

Nothing lives in a session, because a pooler gives each transaction another one: no options at the start, no
prepared statements.
"""

from __future__ import annotations

import psycopg

from eksgateway.errors import StartError
from eksgateway.ledger.database import LedgerError
from eksgateway.ledger.postgres.connection_parameters import read_url, resolve_hosts
from eksgateway.settings import PostgresLocation


def connect(location: PostgresLocation, **parameters: str) -> psycopg.Connection:
    """Connect in autocommit mode: statements begin transactions. The URL overrides ``parameters``.

    Raises psycopg.Error, LedgerError; neither has the URL's password in its text.
    """
    try:
        # libpq would resolve the hosts while it holds Python's lock.
        conninfo = resolve_hosts(read_url(location.url, **parameters))
    except StartError as exc:
        raise LedgerError(f"{location}: {exc}") from None
    except OSError as exc:
        raise psycopg.OperationalError(f"could not resolve host: {exc.strerror}") from exc
    return psycopg.connect(conninfo, autocommit=True, prepare_threshold=None)
