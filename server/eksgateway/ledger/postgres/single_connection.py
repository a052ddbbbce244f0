"""One connection to a PostgreSQL ledger, for commands: not for a gateway, which has pools and deadlines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import Connection, NullPool, create_engine
from sqlalchemy.exc import DBAPIError

from eksgateway.ledger.database import LedgerError

_CONNECT_TIMEOUT_S: Final = 5


def name_url(url: str) -> str:
    """The URL without its password. Raises LedgerError."""
    try:
        parts = conninfo_to_dict(url)
    except psycopg.ProgrammingError as exc:
        raise LedgerError(
            "the URL of the ledger is not one of PostgreSQL: write it as"
            " postgresql://USER@HOST:PORT/DATABASE; the password comes from PGPASSFILE or PGPASSWORD"
        ) from exc
    user = f"{parts['user']}@" if "user" in parts else ""
    port = f":{parts['port']}" if "port" in parts else ""
    return f"postgresql://{user}{parts.get('host', '')}{port}/{parts.get('dbname', '')}"


@contextmanager
def connect(url: str) -> Iterator[Connection]:
    """Raises LedgerError, also for errors of the database in the block."""
    name = name_url(url)

    def open_connection() -> psycopg.Connection:
        return psycopg.connect(url, connect_timeout=_CONNECT_TIMEOUT_S, prepare_threshold=None)

    engine = create_engine(
        "postgresql+psycopg://", creator=open_connection, poolclass=NullPool, use_native_hstore=False
    )
    try:
        with engine.connect() as connection:
            yield connection
    except (DBAPIError, psycopg.Error) as exc:
        reason = str(getattr(exc, "orig", exc)).strip()
        raise LedgerError(f"{name}: {reason}") from exc
