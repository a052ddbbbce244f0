"""The connections of a gateway's reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import psycopg

from eksgateway.ledger.database import Connection
from eksgateway.ledger.postgres.connecting import connect
from eksgateway.ledger.postgres.deadlines import Deadlines
from eksgateway.ledger.postgres.errors import is_ended
from eksgateway.ledger.postgres.schema_connection import SchemaConnection
from eksgateway.settings import PostgresLocation

T = TypeVar("T")


class ReadConnections:
    """Opened when they are needed, and kept. Used by several threads, each of which waits for no other."""

    def __init__(self, location: PostgresLocation, deadlines: Deadlines) -> None:
        self._location = location
        self._deadlines = deadlines
        self._idle: list[psycopg.Connection] = []
        self._closed = False

    def run(self, query: Callable[[Connection], T]) -> T:
        """Run a query, and again if its connection turns out to be ended.

        Raises psycopg.Error, StorageError.
        """
        try:
            return self._run(query)
        except psycopg.OperationalError as exc:
            if not is_ended(exc):
                raise
        self._close_idle()  # a restart of PostgreSQL ends all
        return self._run(query)

    def _run(self, query: Callable[[Connection], T]) -> T:
        connection = self._take() or connect(self._location)
        try:
            with self._deadlines.watch(connection):
                return query(SchemaConnection(connection, self._location.schema))
        finally:
            if not connection.closed:
                self._idle.append(connection)
            if self._closed:
                self._close_idle()

    def _take(self) -> psycopg.Connection | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _close_idle(self) -> None:
        while (connection := self._take()) is not None:
            connection.close()

    def close(self) -> None:
        """Close the connections, those in use when their queries end."""
        self._closed = True
        self._close_idle()
