"""One piece of work for the ledger's writer, and the ways in which it fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy.exc import DBAPIError

from eksgateway.ledger.sqlite import explain, fails_every_write
from eksgateway.ledger.store import Transaction, TransactionLost
from eksgateway.logs import Log

log = Log(__name__)

T = TypeVar("T")


class StorageError(Exception):
    """The database did not do it in time, or at all; the text is for the log."""


class OperationRejected(StorageError):
    """The database works, and refuses this one operation."""


class WriteOperation(Generic[T]):
    """One piece of work for the writer. ``begun`` is whether it may have been committed."""

    def __init__(self, work: Callable[[Transaction], T], done: asyncio.Future[None]) -> None:
        self.work = work
        self.done = done
        self.begun = False
        self.abandoned = False
        self.value: T | None = None
        self.error: Exception | None = None


@dataclass(frozen=True, slots=True)
class CommitFailure:
    """Why a transaction failed; ``fails_all`` where it is the whole database that failed."""

    reason: str
    slow: bool
    fails_all: bool

    def error(self) -> StorageError:
        fails_all = self.slow or self.fails_all
        return StorageError(self.reason) if fails_all else OperationRejected(self.reason)


def perform(transaction: Transaction, batch: list[WriteOperation[Any]]) -> None:
    """Run every operation in a savepoint of its own. Raises what ends the transaction."""
    for operation in batch:
        try:
            with transaction.savepoint():
                operation.value = operation.work(transaction)
        except TransactionLost:
            raise
        except DBAPIError as exc:
            if fails_every_write(exc):
                raise
            log.warning("ledger.write_refused", reason=explain(exc))
            operation.error = OperationRejected(explain(exc))
        except Exception as exc:  # noqa: BLE001 (its caller gets it; the others go on)
            operation.error = exc


def resolve(batch: list[WriteOperation[Any]]) -> None:
    """Wake those that wait for these operations; called on their event loop."""
    for operation in batch:
        if not operation.done.done():
            operation.done.set_result(None)
