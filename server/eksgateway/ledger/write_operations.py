"""Operations of the ledger's writer, and how a batch of them fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from eksgateway.ledger.database import OperationRejected, StorageError
from eksgateway.ledger.unit_of_work import ReadKeys, UnitOfWork

T = TypeVar("T")


class WriteOperation(Generic[T]):
    """Work for the writer. ``begun``: it may be, or have been, committed. ``abandoned``: no caller waits."""

    def __init__(self, work: Callable[[UnitOfWork], T], keys: ReadKeys, done: asyncio.Future[None]) -> None:
        self.work = work
        self.keys = keys
        self.done = done
        self.begun = False
        self.abandoned = False
        self.value: T | None = None
        self.error: Exception | None = None


@dataclass(frozen=True, slots=True)
class CommitFailure:
    """Why a batch failed, and whether every other write would fail too (``fails_all``).

    ``final``: it took long, or may be committed all the same. Its operations are not tried again.
    """

    reason: str
    final: bool
    fails_all: bool

    @property
    def fails_others(self) -> bool:
        return self.final or self.fails_all

    def error(self) -> StorageError:
        return (StorageError if self.fails_others else OperationRejected)(self.reason)


def perform(unit: UnitOfWork, batch: list[WriteOperation[Any]]) -> None:
    """Run each operation in memory. One that raises changes nothing, and its caller gets the error."""
    for operation in batch:
        before = unit.changes
        try:
            operation.value = operation.work(unit)
        except Exception as exc:  # noqa: BLE001 (its caller gets it; the others go on)
            operation.error = exc
            unit.changes = before


def resolve(batch: list[WriteOperation[Any]]) -> None:
    """Wake the callers of these operations. Runs on their event loop."""
    for operation in batch:
        if not operation.done.done():
            operation.done.set_result(None)
