"""Reads, on a few threads with connections of their own: they never wait for the writer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from eksgateway.ledger.sqlite import LedgerError, explain
from eksgateway.ledger.write_operations import StorageError

T = TypeVar("T")

THREADS = 4


class Reader:
    """Runs queries within a deadline; at most ``limit`` wait for a thread."""

    def __init__(self, engine: Engine, limit: int) -> None:
        self._engine = engine
        self._limit = limit
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="ledger-reader")
        self._unfinished: set[Future[Any]] = set()
        self._closed = False

    async def read(self, query: Callable[[Connection], T], timeout_s: float) -> T:
        """What the query returns or raises, in a snapshot of its own. Raises StorageError."""
        if self._closed:
            raise StorageError("the ledger is closed")
        if len(self._unfinished) >= self._limit:
            raise StorageError(f"{self._limit} reads are waiting already")
        running = self._threads.submit(self._run, query)
        self._unfinished.add(running)
        running.add_done_callback(self._unfinished.discard)
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.wrap_future(running)
        except TimeoutError as exc:
            raise StorageError(f"not read within {timeout_s:g} s") from exc
        except (SQLAlchemyError, LedgerError) as exc:
            raise StorageError(explain(exc)) from exc

    def _run(self, query: Callable[[Connection], T]) -> T:
        with self._engine.begin() as connection:
            return query(connection)

    def close(self) -> None:
        self._closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)
