"""The connection of the ledger's writer."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg

from eksgateway.ledger.database import CommitUnknown
from eksgateway.ledger.postgres.connecting import connect
from eksgateway.ledger.postgres.deadlines import Deadlines
from eksgateway.ledger.postgres.errors import explain, is_ended
from eksgateway.ledger.postgres.pipeline import Rows, Statement, run_pipeline
from eksgateway.settings import PostgresLocation


class WriteConnection:
    """Opened when it is first used, and replaced after a failure. Used by one thread."""

    def __init__(self, location: PostgresLocation, deadlines: Deadlines) -> None:
        self._location = location
        self._deadlines = deadlines
        self._connection: psycopg.Connection | None = None
        self._warned = False

    def begin(self, statements: Sequence[Statement]) -> list[Rows]:
        """Begin a transaction in one round trip. Repeats it at once if the connection turns out to be ended.

        Raises psycopg.Error, StorageError.
        """
        opened = self._connection is None
        try:
            return self._begin(statements)
        except psycopg.Error as exc:
            self.discard()
            if opened or not is_ended(exc):
                raise
        return self._begin(statements)

    def _begin(self, statements: Sequence[Statement]) -> list[Rows]:
        connection = self._connect()
        with self._deadlines.watch(connection):
            return run_pipeline(connection, statements)

    def commit(self, statements: Sequence[Statement]) -> None:
        """Run the last statements of a transaction, and COMMIT, in one round trip.

        Raises CommitUnknown if the answer is missing, and psycopg.Error if nothing was committed.
        """
        connection = self._connection
        assert connection is not None  # noqa: S101 - begun
        self._warned = False
        try:
            with self._deadlines.watch(connection):
                run_pipeline(connection, statements)
        except Exception as exc:
            if not _is_refusal(exc):
                raise CommitUnknown(explain(exc)) from exc
            raise
        if self._warned:
            raise CommitUnknown("PostgreSQL gave up waiting for its standby: see its log")

    def discard(self) -> None:
        """Close the connection. PostgreSQL rolls back what is not committed."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _connect(self) -> psycopg.Connection:
        if self._connection is None:
            self._connection = connect(self._location)
            self._connection.add_notice_handler(self._note)
        return self._connection

    def _note(self, notice: psycopg.errors.Diagnostic) -> None:
        # COMMIT succeeds with a warning when its wait for a synchronous standby is cancelled.
        self._warned |= notice.severity_nonlocalized == "WARNING"


def _is_refusal(exc: Exception) -> bool:
    """Whether nothing is committed: PostgreSQL refused a statement, or psycopg its parameters."""
    if isinstance(exc, psycopg.Error) and exc.diag.severity_nonlocalized is not None:
        return exc.diag.severity_nonlocalized == "ERROR"
    return isinstance(exc, (psycopg.DataError, UnicodeError))
