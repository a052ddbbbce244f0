"""SQLAlchemy's engines over psycopg, for queries that both kinds of database run."""

from __future__ import annotations

from functools import partial
from typing import Any

import psycopg
from sqlalchemy import Connection, Engine, create_engine

from eksgateway.ledger.postgres.connecting import connect
from eksgateway.settings import PostgresLocation


def open_engine(location: PostgresLocation, *, sessions: str = "read-write", **options: Any) -> Engine:
    """``sessions`` is libpq's ``target_session_attrs``, and ``options`` are those of ``create_engine``."""
    return create_engine(
        "postgresql+psycopg://",
        creator=partial(connect, location, target_session_attrs=sessions),
        use_native_hstore=False,  # finding its type would take a round trip
        **options,
    )


def raw_connection(connection: Connection) -> psycopg.Connection[Any]:
    raw = connection.connection.driver_connection
    assert isinstance(raw, psycopg.Connection)  # noqa: S101  the engines here have no other driver
    return raw
