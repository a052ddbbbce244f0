"""The ledger's interface to its database, which ``ledger/sqlite`` and ``ledger/postgres`` implement.

``sql_ledger.open_ledger`` chooses between them for the gateway, and ``inspection`` for other programs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar

from eksgateway.errors import StartError
from eksgateway.ledger.unit_of_work import ReadKeys, UnitOfWork
from eksgateway.settings import PostgresLocation

T = TypeVar("T")

LedgerLocation: TypeAlias = Path | PostgresLocation  # an SQLite file, or a schema of PostgreSQL


class LedgerError(StartError):
    """The text gives the ledger's location, the fault and the remedy."""


class StorageError(Exception):
    """The database failed, or did not answer in time."""


class CommitUnknown(StorageError):
    """PostgreSQL did not answer a COMMIT: what it had to write may be durable, or not."""


class OperationRejected(StorageError):
    """The database rejects this one operation only."""


class Rows(Protocol):
    """The rows of a statement, of which each is read once."""

    def fetchone(self) -> Any: ...

    def fetchall(self) -> list[Any]: ...

    def __iter__(self) -> Iterator[Any]: ...


class Connection(Protocol):
    """Runs statements of ``queries``, in SQLite's dialect: parameters as in ``:name``, tables as in
    ``main.events``, truth as in ``pending = 1``. A connection of sqlite3 is one.
    """

    def execute(self, statement: str, parameters: Mapping[str, Any] | Sequence[Any] = ..., /) -> Rows: ...

    def executemany(self, statement: str, parameters: Iterable[Any], /) -> object: ...


class Snapshot(Connection, Protocol):
    """A connection that sees one state of the database."""

    def stream(self, statement: str, /) -> AbstractContextManager[Iterator[Any]]:
        """The rows of a statement, which need not fit into memory."""


class Database(Protocol):
    """The database of one gateway, migrated. One in SQLite is owned by it alone.

    ``read_connections`` is how many reads run at once. ``probed_by_writing``: ``check`` needs a write before.
    """

    driver_errors: tuple[type[Exception], ...]
    read_connections: int
    probed_by_writing: bool

    def begin_batch(self, keys: ReadKeys) -> AbstractContextManager[UnitOfWork]:
        """Take the one write lock, and read the chain's head and what the keys name.

        At the end of the block, write its changes and commit, or roll back if it has raised. Raises
        CommitUnknown when it is open whether the changes are durable; other errors of a commit leave it open
        in SQLite only. Called by one thread at a time.
        """

    @property
    def replica(self) -> str:
        """The name of this gateway in ``cancellations.replica``; empty where there is only one."""

    def read(self, query: Callable[[Connection], T]) -> T:
        """Run a query of one statement, which waits for no writer. It may run twice.

        Called by ``read_connections`` threads at most.
        """

    def check(self, connection: Connection) -> None:
        """Test whether reading works, as a query for ``read``. Raises LedgerError for a wrong database."""

    def explain(self, exc: BaseException) -> str:
        """The database's text of an error, with the remedy where one is known."""

    def fails_every_write(self, exc: BaseException) -> bool:
        """Whether any other write would meet the same error."""

    def close(self) -> None:
        """Release the ledger. Closing again does nothing."""
