"""A gateway per test: nothing is shared, so that tests run in parallel and in any order."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.gateway import Running, running
from support.simulator import SimulatedEks


@pytest.fixture
async def eks() -> AsyncIterator[SimulatedEks]:
    async with SimulatedEks() as simulated:
        yield simulated


@pytest.fixture
async def gateway(tmp_path: Path, eks: SimulatedEks) -> AsyncIterator[Running]:
    async with running(tmp_path, eks) as here:
        yield here


PRODUCTION = {"environment": "production"}
