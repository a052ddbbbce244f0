"""A gateway with an HTTP edge per test, and an HTTP client of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.edge import EdgeClient, run_edge
from support.simulator import SimulatedEks


@pytest.fixture
async def eks() -> AsyncIterator[SimulatedEks]:
    async with SimulatedEks() as simulated:
        yield simulated


@pytest.fixture
async def edge(tmp_path: Path, eks: SimulatedEks) -> AsyncIterator[EdgeClient]:
    async with run_edge(tmp_path, eks) as here:
        yield here
