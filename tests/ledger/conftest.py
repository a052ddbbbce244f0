"""A ledger of each test's own, opened as a gateway opens it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from eksgateway.clock import SystemClock
from eksgateway.ledger.sql import SqlLedger, open_ledger
from eksgateway.settings import LedgerSettings


@pytest.fixture
def settings(tmp_path: Path) -> LedgerSettings:
    return LedgerSettings(path=tmp_path / "ledger.db", commit_timeout_s=10)


@pytest.fixture
async def ledger(settings: LedgerSettings) -> AsyncIterator[SqlLedger]:
    opened = await open_ledger(settings, SystemClock())
    yield opened
    await opened.close()
