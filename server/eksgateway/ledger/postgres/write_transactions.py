"""The writer's transactions. Each takes two round trips, however many operations are in it.

The first one takes the lock, and reads; the second one writes, and commits. Between them the operations run
in memory. Isolation is READ COMMITTED, and the lock and the head are two statements: a head that is read in
the lock's own snapshot may be older than the lock.
"""

from __future__ import annotations

from datetime import UTC
from typing import Final

from eksgateway.ledger.postgres.batch_statements import BatchStatements
from eksgateway.ledger.postgres.chain_lock import chain_lock_key
from eksgateway.ledger.postgres.deadlines import Deadlines
from eksgateway.ledger.postgres.known_head import KnownHead, head_statement
from eksgateway.ledger.postgres.pipeline import Statement
from eksgateway.ledger.postgres.write_connection import WriteConnection
from eksgateway.ledger.unit_of_work import ReadKeys, ReadRows, UnitOfWork
from eksgateway.settings import PostgresLocation

# A holder of the lock that is stopped, or out of reach, loses it after this time.
_HOLD_MS: Final = 2000

_BEGIN: Final = Statement(b"BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
# Local to the transaction, because a pooler gives the next one another session.
_SET: Final = b"""
    SELECT set_config('lock_timeout', %s, true), set_config('statement_timeout', %s, true),
        set_config('idle_in_transaction_session_timeout', %s, true),
        set_config('synchronous_commit', 'on', true), set_config('client_min_messages', 'warning', true)"""
# After the lock, because it counts from here, and waiting is no fault. PostgreSQL 15 and 16 lack it.
_HOLD: Final = b"""
    SELECT CASE WHEN current_setting('transaction_timeout', true) IS NOT NULL
        THEN set_config('transaction_timeout', %s, true) END"""
_LOCK: Final = b"SELECT pg_advisory_xact_lock(%s)"
# A statement_timeout that ends the wait for a synchronous standby would let COMMIT succeed all the same.
_NO_TIMEOUT: Final = Statement(b"SELECT set_config('statement_timeout', '0', true)")
_COMMIT: Final = Statement(b"COMMIT")


class WriteTransactions:
    """Used by one thread."""

    def __init__(
        self,
        location: PostgresLocation,
        replica: str,
        known: KnownHead,
        deadlines: Deadlines,
        commit_timeout_s: float,
    ) -> None:
        self._known = known
        self._connection = WriteConnection(location, deadlines)
        self._batches = BatchStatements(location.schema, replica)
        lock_ms = round(commit_timeout_s * 900)  # before the callers give up, so that they get the cause
        self._begin = [
            _BEGIN,
            Statement(_SET, [str(lock_ms), str(lock_ms + 1000), str(_HOLD_MS)]),
            Statement(_LOCK, [chain_lock_key(location.schema)]),
            Statement(_HOLD, [str(_HOLD_MS)]),
        ]
        self._head = head_statement(location.schema).encode()

    def begin(self, keys: ReadKeys) -> UnitOfWork:
        """Take the lock and read what the keys name. Raises psycopg.Error, StorageError, LedgerError."""
        reads = self._batches.reads(keys)
        known = self._known.head
        head = Statement(self._head, [known.seq])
        found = self._connection.begin([*self._begin, head, *(statement for statement, _ in reads)])
        (answer,), *results = found[len(self._begin) :]
        rows = ReadRows(keys, self._known.check(known, answer))
        for (_, add), result in zip(reads, results, strict=True):
            add(rows, result)
        now = answer[0].replace(tzinfo=UTC)
        return UnitOfWork(rows, lambda: now)

    def commit(self, unit: UnitOfWork) -> None:
        """Raises CommitUnknown, or psycopg.Error if nothing was committed."""
        self._connection.commit([*self._batches.writes(unit), _NO_TIMEOUT, _COMMIT])
        self._known.advance(unit.head)

    def discard(self) -> None:
        """Roll back, and connect anew for the next batch."""
        self._connection.discard()
