"""A simulated EKS for each test, whose clock the test advances."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from support.simulator import SimulatedEks


@pytest.fixture
async def eks() -> AsyncIterator[SimulatedEks]:
    async with SimulatedEks() as running:
        yield running
