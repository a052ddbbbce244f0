"""The ledger's interface to its database. Only ``ledger/sqlite`` knows SQLite.

Another database implements ``Database``, and is chosen where SQLite is: in ``sql_ledger.open_ledger`` for the
gateway, and in ``inspection.open_read_only`` for other programs.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final, Protocol, TypeAlias

from sqlalchemy import Engine

from eksgateway.errors import StartError
from eksgateway.ledger.unit_of_work import ReadKeys, UnitOfWork
from eksgateway.settings import PostgresLocation

READ_CONNECTIONS: Final = 4

LedgerLocation: TypeAlias = Path | PostgresLocation  # an SQLite file, or a schema of PostgreSQL


class LedgerError(StartError):
    """The text gives the ledger's file, the fault and the remedy."""


class StorageError(Exception):
    """The database failed, or did not answer in time."""


class OperationRejected(StorageError):
    """The database rejects this one operation only."""


class Database(Protocol):
    """The database of one gateway: owned by it alone, and migrated."""

    def begin_batch(self, keys: ReadKeys) -> AbstractContextManager[UnitOfWork]:
        """Take the one write lock, and read the chain's head and what the keys name.

        At the end of the block, write its changes and commit, or roll back if it has raised. An error of the
        commit leaves open whether the changes are durable. Called by one thread at a time.
        """

    @property
    def replica(self) -> str:
        """The name of this gateway in ``cancellations.replica``; empty where there is only one."""

    @property
    def read_engine(self) -> Engine:
        """``READ_CONNECTIONS`` connections. A transaction is a snapshot, and waits for no writer."""

    def explain(self, exc: BaseException) -> str:
        """The database's text of an error, with the remedy where one is known."""

    def fails_every_write(self, exc: BaseException) -> bool:
        """Whether any other write would meet the same error."""

    def close(self) -> None:
        """Release the ledger. Closing again does nothing."""
