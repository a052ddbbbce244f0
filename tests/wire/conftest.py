"""A gateway per test: nothing is shared, so that tests run in parallel and in any order."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog

from support.gateway import Running, running
from support.simulator import SimulatedEks

# structlog's own console draws tracebacks with all their variables, which takes seconds each.
structlog.configure(
    processors=[
        structlog.processors.add_log_level,
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
    ]
)


@pytest.fixture
async def eks() -> AsyncIterator[SimulatedEks]:
    async with SimulatedEks() as simulated:
        yield simulated


@pytest.fixture
async def gateway(tmp_path: Path, eks: SimulatedEks) -> AsyncIterator[Running]:
    async with running(tmp_path, eks) as here:
        yield here


PRODUCTION = {"environment": "production"}
