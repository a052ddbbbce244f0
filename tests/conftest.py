"""Servers for tests of several parts, each started once per test process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from support.postgres import LedgerDatabase, create_ledger, run_postgres
from support.sts import run_moto

# On a loaded machine an example may take over 200 ms.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tests and the programs that they start keep machine code here, not in the user's home."""
    os.environ.pop("CACHE_DIRECTORY", None)
    path = tmp_path_factory.mktemp("cache")
    os.environ["XDG_CACHE_HOME"] = str(path)
    return path


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a moto server."""
    with run_moto(tmp_path_factory.mktemp("moto")) as url:
        yield url


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The superuser's URL of a PostgreSQL."""
    with run_postgres() as url:
        yield url


@pytest.fixture
def ledger_database(postgres: str) -> Iterator[LedgerDatabase]:
    """A migrated database."""
    with create_ledger(postgres) as database:
        yield database
