"""A ledger for each test, opened as a gateway opens it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from eksgateway.clock import SystemClock
from eksgateway.ledger.sql_ledger import SqlLedger, open_ledger
from eksgateway.ledger.verify import verify
from eksgateway.settings import LedgerSettings
from support.ledger import Faults, faulty_ledger
from support.postgres import LedgerDatabase


@pytest.fixture
def limits() -> dict[str, Any]:
    """The settings of a test's module, without the database."""
    return {"commit_timeout_s": 10}


@pytest.fixture
def sqlite_settings(tmp_path: Path, limits: dict[str, Any]) -> LedgerSettings:
    return LedgerSettings(path=tmp_path / "ledger.db", **limits)


@pytest.fixture(params=["sqlite", "postgres"])
def settings(request: pytest.FixtureRequest, limits: dict[str, Any]) -> LedgerSettings:
    """An empty ledger in each database."""
    if request.param == "sqlite":
        found: LedgerSettings = request.getfixturevalue("sqlite_settings")
        return found
    database: LedgerDatabase = request.getfixturevalue("ledger_database")
    return LedgerSettings(url=database.url, **limits)


@pytest.fixture
async def ledger(settings: LedgerSettings) -> AsyncIterator[SqlLedger]:
    opened = await open_ledger(settings, SystemClock())
    yield opened
    await opened.close()


@pytest.fixture
async def faulty(settings: LedgerSettings) -> AsyncIterator[tuple[SqlLedger, Faults]]:
    """A ledger with the settings of the test's module, and its faults; it must be sound at the end."""
    ledger, faults = faulty_ledger(settings)
    yield ledger, faults
    faults.release.set()
    await ledger.close()
    assert verify(settings.location).broken is None


@pytest.fixture
def faults(faulty: tuple[SqlLedger, Faults]) -> Faults:
    return faulty[1]
