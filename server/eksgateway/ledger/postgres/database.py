"""The ledger's PostgreSQL, as one of its gateways uses it."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar
from uuid import uuid4

import psycopg

from eksgateway.ledger.database import Connection, LedgerError, StorageError
from eksgateway.ledger.hash_chain import GENESIS
from eksgateway.ledger.postgres import errors
from eksgateway.ledger.postgres.checks import check_database
from eksgateway.ledger.postgres.connecting import connect
from eksgateway.ledger.postgres.deadlines import Deadlines
from eksgateway.ledger.postgres.known_head import KnownHead, head_statement
from eksgateway.ledger.postgres.read_connections import ReadConnections
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

    driver_errors: tuple[type[Exception], ...] = (psycopg.Error,)
    probed_by_writing = False  # the gateway's row in ``replicas`` is the probe: it takes no lock of the chain
    explain = staticmethod(errors.explain)
    fails_every_write = staticmethod(errors.fails_every_write)

    def __init__(self, settings: LedgerSettings) -> None:
        """Blocks. Raises LedgerError."""
        location = settings.location
        assert isinstance(location, PostgresLocation)  # noqa: S101 - of settings with ``url``
        self.read_connections = settings.connections - _OTHER_CONNECTIONS
        self._known = KnownHead(str(location))
        self._head = head_statement(location.schema)
        self._deadlines = Deadlines(2 * settings.commit_timeout_s)
        self._start(settings, location)
        self.replica = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"  # unique for each start
        timeout_s = settings.commit_timeout_s
        self._chain = WriteTransactions(location, self.replica, self._known, self._deadlines, timeout_s)
        self._readers = ReadConnections(location, self._deadlines)

    def _start(self, settings: LedgerSettings, location: PostgresLocation) -> None:
        try:
            with connect(location) as connection, self._deadlines.watch(connection):
                check_database(connection, settings)
                (row,) = connection.execute(self._head.encode(), [0]).fetchall()
                self._known.check(GENESIS, row)
        except BaseException as exc:
            self._deadlines.close()
            if isinstance(exc, (StorageError, psycopg.Error)):
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
        return self._readers.run(query)

    def check(self, connection: Connection) -> None:
        known = self._known.head
        (row,) = connection.execute(self._head, (known.seq,))
        self._known.check(known, row)

    def close(self) -> None:
        self._chain.discard()
        self._readers.close()
        self._deadlines.close()
