"""Several statements in one round trip."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeAlias

import psycopg
from psycopg.abc import PQGen

Rows: TypeAlias = list[tuple[Any, ...]]


class Statement(NamedTuple):
    text: bytes
    parameters: Sequence[Any] = ()


def run_pipeline(connection: psycopg.Connection, statements: Sequence[Statement]) -> list[Rows]:
    """The rows of each statement. Raises the first error of psycopg; nothing after that statement is run."""
    with _pipeline(connection):
        cursors = [connection.execute(text, parameters, prepare=False) for text, parameters in statements]
    return [cursor.fetchall() if cursor.description else [] for cursor in cursors]


class _Pipeline(psycopg.Pipeline):
    """It ends with a Sync, and sends no Flush after it, as psycopg's own pipelines do.

    PostgreSQL's idle_in_transaction_session_timeout begins to count at a Sync, and any message stops it.
    """

    def _exit_gen(self) -> PQGen[None]:
        try:
            self._enqueue_sync()
            yield from self._communicate_gen()
        finally:
            yield from self._fetch_gen(flush=False)


@contextmanager
def _pipeline(connection: psycopg.Connection) -> Iterator[None]:
    """As ``connection.pipeline()``, which makes pipelines of one class only."""
    connection._pipeline = pipeline = _Pipeline(connection)  # noqa: SLF001
    try:
        with pipeline:
            yield
    finally:
        connection._pipeline = None  # noqa: SLF001
