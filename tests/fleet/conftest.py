"""A PostgreSQL that tests may disturb."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from eksgateway.sandbox.postgres_server import PostgresServer


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A PostgreSQL that the tests of a module freeze and restart."""
    with PostgresServer() as server:
        yield server.start()
