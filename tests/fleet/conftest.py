"""A real PostgreSQL, one for the tests of a process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.postgres import GATEWAY, OWNER, as_role, create_database, run_postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The superuser's URL."""
    with run_postgres() as url:
        yield url


@pytest.fixture
def database(postgres: str) -> Iterator[str]:
    """The name of an empty database."""
    with create_database(postgres) as name:
        yield name


@pytest.fixture
def owner_url(postgres: str, database: str) -> str:
    return as_role(postgres, database, OWNER)


@pytest.fixture
def gateway_url(postgres: str, database: str) -> str:
    return as_role(postgres, database, GATEWAY)
