"""A fresh stage for each test, on a clock that only the test moves."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from support.watching import Stage


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with Stage.set_up() as stage:
        yield stage
