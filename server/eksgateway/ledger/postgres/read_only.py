"""Reads a ledger in PostgreSQL from programs other than its gateways."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from functools import partial

import psycopg

from eksgateway.ledger.database import LedgerError, Snapshot
from eksgateway.ledger.postgres.connecting import connect
from eksgateway.ledger.postgres.errors import explain
from eksgateway.ledger.postgres.owner import SET_SESSION
from eksgateway.ledger.postgres.revision import require_usable
from eksgateway.ledger.postgres.schema_connection import SchemaConnection
from eksgateway.settings import PostgresLocation


@contextmanager
def open_schema(location: PostgresLocation) -> Iterator[Callable[[], AbstractContextManager[Snapshot]]]:
    """Yields a function that begins a snapshot of a ledger of this version's schema. It cannot write.

    Raises LedgerError, also for errors of the database in the block.
    """
    try:
        with _begin(location) as connection:
            require_usable(connection, location)
        yield partial(_begin_snapshot, location)
    except psycopg.Error as exc:
        raise LedgerError(f"{location}: {explain(exc)}") from exc


@contextmanager
def _begin_snapshot(location: PostgresLocation) -> Iterator[Snapshot]:
    with _begin(location) as connection:
        yield SchemaConnection(connection, location.schema)


@contextmanager
def _begin(location: PostgresLocation) -> Iterator[psycopg.Connection]:
    with closing(connect(location, target_session_attrs="any")) as connection:  # a standby will do
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        with connection.transaction():
            connection.execute(SET_SESSION, [location.schema])
            yield connection
