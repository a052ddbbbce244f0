"""A gateway per test: nothing is shared, so that tests run in parallel and in any order."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.gateway import RunningGateway, run_gateway
from support.simulator import SimulatedEks


@pytest.fixture
async def eks() -> AsyncIterator[SimulatedEks]:
    async with SimulatedEks() as simulated:
        yield simulated


@pytest.fixture
async def gateway(tmp_path: Path, eks: SimulatedEks) -> AsyncIterator[RunningGateway]:
    async with run_gateway(tmp_path, eks) as here:
        yield here


PRODUCTION = {"environment": "production"}
