"""Changes of a ledger in PostgreSQL by its owner, as commands make them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import psycopg
from sqlalchemy import Connection, NullPool, create_engine
from sqlalchemy.exc import SQLAlchemyError

from eksgateway.ledger.database import LedgerError
from eksgateway.ledger.postgres.chain_lock import chain_lock_key
from eksgateway.ledger.postgres.connecting import connect
from eksgateway.ledger.postgres.errors import error_state, explain, find_error
from eksgateway.settings import PostgresLocation

# psycopg reads times in the style ISO only. A role or database may have synchronous_commit off.
SET_SESSION: Final = """
SELECT set_config('search_path', %s, true), set_config('DateStyle', 'ISO', true),
    set_config('synchronous_commit', 'on', true)
"""
_LACKS_A_RIGHT: Final = "42501"  # an SQLSTATE
_OWNER: Final = "use a URL of the ledger's owner; to create one, it needs CREATE on the database"
_CHAIN_TIMEOUT: Final = "30s"
_TABLE_TIMEOUT: Final = "2s"  # the gateways wait behind a lock of a table that is waited for
_SET_LOCK_TIMEOUT: Final = "SELECT set_config('lock_timeout', %s, true)"


@contextmanager
def begin_change(location: PostgresLocation) -> Iterator[Connection]:
    """A transaction under the chain's lock: no gateway writes meanwhile. The schema is its search_path.

    Raises LedgerError, also for errors of the database in the block; then nothing is changed.
    """
    engine = create_engine(
        "postgresql+psycopg://",
        creator=partial(connect, location, target_session_attrs="read-write"),
        use_native_hstore=False,  # finding its type would take a round trip
        poolclass=NullPool,
        isolation_level="READ COMMITTED",
    )
    try:
        with engine.begin() as connection:
            raw = raw_connection(connection)
            raw.execute(SET_SESSION, [location.schema])
            raw.execute(_SET_LOCK_TIMEOUT, [_CHAIN_TIMEOUT])
            raw.execute("SELECT pg_advisory_xact_lock(%s)", [chain_lock_key(location.schema)])
            raw.execute(_SET_LOCK_TIMEOUT, [_TABLE_TIMEOUT])
            yield connection
    except (SQLAlchemyError, psycopg.Error) as exc:
        if error_state(exc) == _LACKS_A_RIGHT:
            raise LedgerError(f"{location}: {str(find_error(exc)).strip()}: {_OWNER}") from exc
        raise LedgerError(f"{location}: {explain(exc)}") from exc


def raw_connection(connection: Connection) -> psycopg.Connection[Any]:
    raw = connection.connection.driver_connection
    assert isinstance(raw, psycopg.Connection)  # noqa: S101  the engine here has no other driver
    return raw
