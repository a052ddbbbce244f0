"""A ledger for each test, opened as a gateway opens it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from eksgateway.clock import SystemClock
from eksgateway.ledger.sql_ledger import SqlLedger, open_ledger
from eksgateway.ledger.verify import verify
from eksgateway.settings import LedgerSettings
from support.ledger import Faults, faulty_ledger


@pytest.fixture
def settings(tmp_path: Path) -> LedgerSettings:
    return LedgerSettings(path=tmp_path / "ledger.db", commit_timeout_s=10)


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
