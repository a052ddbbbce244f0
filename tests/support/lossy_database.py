"""A ledger's database whose answers to COMMIT are lost when a test says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from eksgateway.ledger.database import CommitUnknown
from eksgateway.ledger.unit_of_work import ReadKeys, UnitOfWork


class LossyDatabase:
    """A real database. ``script`` has what becomes of the next batches that write a cancellation:

    ``committed`` or ``lost``: the answer to COMMIT is missing, and the batch is durable, or not.
    ``down``: the database cannot be written until this step is removed.
    """

    def __init__(self, database: Any) -> None:
        self._database = database
        self.script: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    @contextmanager
    def begin_batch(self, keys: ReadKeys) -> Iterator[UnitOfWork]:
        step = self.script[0] if self.script and keys.cancellations else ""
        if step == "down":
            raise psycopg.OperationalError("down")
        if step:
            self.script.pop(0)
        with self._database.begin_batch(keys) as unit:
            yield unit
            if step == "lost":
                raise CommitUnknown("lost")
        if step == "committed":
            raise CommitUnknown("committed")
