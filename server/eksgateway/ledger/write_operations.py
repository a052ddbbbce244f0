"""Operations of the ledger's writer, and how a transaction of several fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy.exc import DBAPIError

from eksgateway.ledger.database import OperationRejected, StorageError
from eksgateway.ledger.store import Transaction, TransactionLost
from eksgateway.logs import Log

log = Log(__name__)

T = TypeVar("T")


class WriteOperation(Generic[T]):
    """Work for the writer. ``begun``: it may be, or have been, committed. ``abandoned``: no caller waits."""

    def __init__(self, work: Callable[[Transaction], T], done: asyncio.Future[None]) -> None:
        self.work = work
        self.done = done
        self.begun = False
        self.abandoned = False
        self.value: T | None = None
        self.error: Exception | None = None


@dataclass(frozen=True, slots=True)
class CommitFailure:
    """Why a transaction failed, and whether every other write would fail too (``fails_all``)."""

    reason: str
    slow: bool
    fails_all: bool

    def error(self) -> StorageError:
        return (StorageError if self.slow or self.fails_all else OperationRejected)(self.reason)


def perform(transaction: Transaction, batch: list[WriteOperation[Any]]) -> None:
    """Run each operation in a savepoint of its own. Raises errors that end the transaction."""
    database = transaction.database
    for operation in batch:
        try:
            with transaction.savepoint():
                operation.value = operation.work(transaction)
        except TransactionLost:
            raise
        except DBAPIError as exc:
            if database.fails_every_write(exc):
                raise
            reason = database.explain(exc)
            log.warning("ledger.write_refused", reason=reason)
            operation.error = OperationRejected(reason)
        except Exception as exc:  # noqa: BLE001 (its caller gets it; the others go on)
            operation.error = exc


def resolve(batch: list[WriteOperation[Any]]) -> None:
    """Wake the callers of these operations. Runs on their event loop."""
    for operation in batch:
        if not operation.done.done():
            operation.done.set_result(None)
