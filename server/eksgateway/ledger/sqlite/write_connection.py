"""The connection of the ledger's writer, which stays open between transactions."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from eksgateway.ledger.sqlite.connecting import WalShrunk, is_wal_emptied
from eksgateway.ledger.sqlite.errors import explain
from eksgateway.logs import Log

log = Log(__name__)


class WriteConnection:
    """Opens its connection when it is first used, and replaces one that has failed.

    ``check`` is called before each connection and transaction; raising there prevents it.
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection], check: Callable[[], None]) -> None:
        self._open = connect
        self._check = check
        self._connection: sqlite3.Connection | None = None
        self._failed = False

    @contextmanager
    def begin(self) -> Iterator[sqlite3.Connection]:
        """A transaction with the write lock, committed at the end of the block."""
        connection = self.connect()
        try:
            self._check_files(connection)
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            self._failed = True
            connection.rollback()
            raise

    def connect(self) -> sqlite3.Connection:
        """The connection. One that has failed is kept if no other can be opened."""
        failed = self._connection
        if failed is not None and not self._failed:
            return failed
        try:
            self._check()
            self._connection = self._open()
        except Exception as exc:
            if failed is None:
                raise
            # Such as no free file descriptor.
            log.warning("ledger.connection_kept", reason=explain(exc))
            return failed
        if failed is not None:
            failed.close()
        self._failed = False
        return self._connection

    def _check_files(self, connection: sqlite3.Connection) -> None:
        try:
            self._check()
        except WalShrunk as exc:
            if not is_wal_emptied(connection):
                raise
            exc.accept()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
