"""Reads a ledger in PostgreSQL from programs other than its gateways."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, NullPool, event

from eksgateway.ledger.database import LedgerError
from eksgateway.ledger.postgres.engine import open_engine, raw_connection
from eksgateway.ledger.postgres.errors import DATABASE_ERRORS, explain
from eksgateway.ledger.postgres.owner import SET_SESSION
from eksgateway.ledger.postgres.revision import require_usable
from eksgateway.settings import PostgresLocation


@contextmanager
def open_schema(location: PostgresLocation) -> Iterator[Engine]:
    """An engine for a ledger of this version's schema. Each transaction is a snapshot, and cannot write.

    Raises LedgerError, also for errors of the database in the block.
    """
    engine = open_engine(
        location,
        sessions="any",  # a standby will do
        poolclass=NullPool,
        isolation_level="REPEATABLE READ",
        execution_options={"postgresql_readonly": True},
    )

    @event.listens_for(engine, "begin")
    def name_schema(connection: Connection) -> None:
        connection.exec_driver_sql(SET_SESSION, (location.schema,))

    try:
        with engine.begin() as connection:
            require_usable(raw_connection(connection), location)
        yield engine
    except DATABASE_ERRORS as exc:
        raise LedgerError(f"{location}: {explain(exc)}") from exc
    finally:
        engine.dispose()
