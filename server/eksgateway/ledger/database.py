"""The ledger's interface to its database. Only ``ledger/sqlite`` knows SQLite.

Another database implements ``Database``, and is chosen where SQLite is: in ``sql_ledger.open_ledger`` for the
gateway, and in ``inspection.open_read_only`` for other programs.
"""

from __future__ import annotations

from typing import Final, Protocol

from sqlalchemy import Connection, Engine

from eksgateway.errors import StartError
from eksgateway.ledger.hash_chain import Checkpoint

READ_CONNECTIONS: Final = 4


class LedgerError(StartError):
    """The text gives the ledger's file, the fault and the remedy."""


class StorageError(Exception):
    """The database failed, or did not answer in time."""


class OperationRejected(StorageError):
    """The database rejects this one operation only."""


class Database(Protocol):
    """The database of one gateway: owned by it alone, and migrated."""

    @property
    def write_engine(self) -> Engine:
        """Its transactions hold the database's one write lock from their begin."""

    @property
    def read_engine(self) -> Engine:
        """``READ_CONNECTIONS`` connections. A transaction is a snapshot, and waits for no writer."""

    def explain(self, exc: BaseException) -> str:
        """The database's text of an error, with the remedy where one is known."""

    def fails_every_write(self, exc: BaseException) -> bool:
        """Whether any other write would meet the same error."""

    def in_transaction(self, connection: Connection) -> bool:
        """False after an error for which the database rolled the whole transaction back."""

    def after_commit(self, connection: Connection, head: Checkpoint) -> None:
        """Called in the writer's thread after COMMIT, before its operations are reported."""

    def close(self) -> None:
        """Release the ledger. Closing again does nothing."""
