"""Runs the ledger's queries, which are in SQLite's dialect, in a schema of PostgreSQL."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import count
from typing import Any, Final

import psycopg

from eksgateway.ledger.database import Rows

_ROWS: Final = 1000  # of a stream, fetched at a time


class SchemaConnection:
    """Implements ``database.Snapshot``, in a transaction."""

    def __init__(self, connection: psycopg.Connection, schema: str) -> None:
        self._connection = connection
        self._schema = schema
        self._numbers = count()

    def execute(self, statement: str, parameters: Mapping[str, Any] | Sequence[Any] = (), /) -> Rows:
        return self._connection.execute(_translate(statement, self._schema), parameters)

    def executemany(self, statement: str, parameters: Iterable[Any], /) -> None:
        with self._connection.cursor() as cursor:
            cursor.executemany(_translate(statement, self._schema), parameters)

    @contextmanager
    def stream(self, statement: str, /) -> Iterator[Iterator[Any]]:
        with self._connection.cursor(f"stream_{next(self._numbers)}") as cursor:
            cursor.itersize = _ROWS
            yield iter(cursor.execute(_translate(statement, self._schema)))


@lru_cache(64)
def _translate(statement: str, schema: str) -> bytes:
    text = statement.replace("main.", f'"{schema}".').replace("pending = 1", "pending")
    return re.sub(r":(\w+)", r"%(\1)s", text).encode()
