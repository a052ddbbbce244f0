"""The ledger's PostgreSQL, as one of its gateways uses it."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar
from uuid import uuid4

import psycopg
from sqlalchemy import Connection, QueuePool
from sqlalchemy.exc import DBAPIError

from eksgateway.ledger.database import LedgerError, StorageError
from eksgateway.ledger.hash_chain import GENESIS
from eksgateway.ledger.postgres import errors
from eksgateway.ledger.postgres.checks import check_database
from eksgateway.ledger.postgres.connecting import connect
from eksgateway.ledger.postgres.deadlines import Deadlines
from eksgateway.ledger.postgres.engine import open_engine, raw_connection
from eksgateway.ledger.postgres.known_head import KnownHead, head_statement
from eksgateway.ledger.postgres.write_transactions import WriteTransactions
from eksgateway.ledger.unit_of_work import ReadKeys, UnitOfWork
from eksgateway.settings import LedgerSettings, PostgresLocation

T = TypeVar("T")

_OTHER_CONNECTIONS: Final = 4  # of ``ledger.connections``: the writer's, and those of the fleet


class PostgresDatabase:
    """Implements ``ledger.database.Database``.

    Reads are single statements, each a snapshot, in autocommit: one round trip. They and the start of a batch
    are repeated once when their connection turns out to be ended, as by a restart of PostgreSQL.
    """

    probed_by_writing = False  # the gateway's row in ``replicas`` is the probe: it takes no lock of the chain
    explain = staticmethod(errors.explain)
    fails_every_write = staticmethod(errors.fails_every_write)

    def __init__(self, settings: LedgerSettings) -> None:
        """Blocks. Raises LedgerError."""
        location = settings.location
        assert isinstance(location, PostgresLocation)  # noqa: S101 - of settings with ``url``
        self.read_connections = settings.connections - _OTHER_CONNECTIONS
        self._closed = False
        self._known = KnownHead(str(location))
        self._head = head_statement(location.schema)
        self._deadlines = Deadlines(2 * settings.commit_timeout_s)
        self._start(settings, location)
        self.replica = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"  # unique for each start
        timeout_s = settings.commit_timeout_s
        self._chain = WriteTransactions(location, self.replica, self._known, self._deadlines, timeout_s)
        self._engine = open_engine(
            location,
            poolclass=QueuePool,
            pool_size=self.read_connections,
            max_overflow=0,
            pool_reset_on_return=None,
            isolation_level="AUTOCOMMIT",
            execution_options={"schema_translate_map": {None: location.schema}},
        )

    def _start(self, settings: LedgerSettings, location: PostgresLocation) -> None:
        try:
            with connect(location) as connection, self._deadlines.watch(connection):
                check_database(connection, settings)
                (row,) = connection.execute(self._head.encode(), [0]).fetchall()
                self._known.check(GENESIS, row)
        except BaseException as exc:
            self._deadlines.close()
            if isinstance(exc, (StorageError, *errors.DATABASE_ERRORS)):
                raise LedgerError(f"{location}: {errors.explain(exc)}") from exc
            raise

    @contextmanager
    def begin_batch(self, keys: ReadKeys) -> Iterator[UnitOfWork]:
        self._known.require_sound()
        try:
            unit = self._chain.begin(keys)
            yield unit
            self._chain.commit(unit)
        except BaseException:
            self._chain.discard()
            raise

    def read(self, query: Callable[[Connection], T]) -> T:
        self._known.require_sound()
        try:
            return self._read(query)
        except (DBAPIError, psycopg.OperationalError) as exc:
            if not errors.is_ended(exc):
                raise
        return self._read(query)

    def _read(self, query: Callable[[Connection], T]) -> T:
        with self._engine.connect() as connection:
            raw = raw_connection(connection)
            try:
                with self._deadlines.watch(raw):
                    return query(connection)
            finally:
                if self._closed:  # its pool has ended, and closes nothing any more
                    raw.close()

    def check(self, connection: Connection) -> None:
        known = self._known.head
        (row,) = connection.exec_driver_sql(self._head, (known.seq,)).all()
        self._known.check(known, row)

    def close(self) -> None:
        self._closed = True
        self._chain.discard()
        self._engine.dispose()
        self._deadlines.close()
