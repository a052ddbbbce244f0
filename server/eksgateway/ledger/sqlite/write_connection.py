"""The connection of the ledger's writer, which stays open between transactions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine

from eksgateway.ledger.sqlite.errors import explain
from eksgateway.logs import Log

log = Log(__name__)


class WriteConnection:
    """Opens its connection when it is first used, and replaces one that has failed."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Connection | None = None
        self._failed = False

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """A transaction, committed at the end of the block."""
        connection = self._connect()
        try:
            with connection.begin():
                yield connection
        except BaseException:
            self._failed = True
            raise

    def _connect(self) -> Connection:
        """The connection. One that has failed is kept if no other can be opened."""
        failed = self._connection
        if failed is not None and not self._failed:
            return failed
        try:
            self._connection = self._engine.connect()
        except Exception as exc:
            if failed is None:
                raise
            # Such as no free file descriptor.
            log.warning("ledger.connection_kept", reason=explain(exc))
            return failed
        if failed is not None:
            failed.invalidate()
            failed.close()
        self._failed = False
        return self._connection

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
