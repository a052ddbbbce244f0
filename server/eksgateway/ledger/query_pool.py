"""Runs queries on a few threads, so that reads never wait for the writer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import TypeVar

from eksgateway.blocking import DaemonThreads
from eksgateway.ledger.database import Connection, Database, LedgerError, StorageError

T = TypeVar("T")


class QueryPool:
    """At most ``limit`` queries run or wait for a thread."""

    def __init__(self, database: Database, limit: int) -> None:
        self._database = database
        self._limit = limit
        self._errors: tuple[type[Exception], ...] = (*database.driver_errors, LedgerError)
        self._unfinished = 0
        self._free = asyncio.Semaphore(database.read_connections)
        self._threads = DaemonThreads("ledger-reader")
        self._closed = False

    async def read(self, query: Callable[[Connection], T], timeout_s: float) -> T:
        """Return or raise what the query does. It only reads, and may run twice. Raises StorageError.

        A query that runs past its deadline keeps its thread until it ends.
        """
        if self._unfinished >= self._limit:
            raise StorageError(f"{self._limit} reads are waiting already")
        try:
            with ExitStack() as held:
                self._unfinished += 1
                held.callback(self._leave)
                async with asyncio.timeout(timeout_s):
                    await self._free.acquire()
                    held.callback(self._free.release)
                    if self._closed:
                        raise StorageError("the ledger is closed")
                    kept = ExitStack()
                    done = self._threads.start(partial(self._database.read, query), kept.close)
                    kept.push(held.pop_all())  # it is closed once the query has ended
                    return await done
        except TimeoutError as exc:
            raise StorageError(f"not read within {timeout_s:g} s") from exc
        except self._errors as exc:
            raise StorageError(self._database.explain(exc)) from exc

    def _leave(self) -> None:
        self._unfinished -= 1

    def close(self) -> None:
        """Take no further queries. Does not wait for those under way."""
        self._closed = True
        self._threads.end()
