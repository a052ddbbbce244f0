"""An engine that follows its policy data by a clock of the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml

from eksgateway.policy.factory import open_policy_engine
from eksgateway.policy.reloader import POLL_S
from eksgateway.policy.wasm import WasmEngine
from eksgateway.settings import WasmPolicySettings
from support.clock import FakeClock
from support.policy_cases import CONTENT
from support.questions import at_request, caller

EVERYBODY: dict[str, Any] = {"eksgateway": CONTENT}
NOBODY: dict[str, Any] = {"eksgateway": {"grants": []}}
ALICE = at_request(caller("jwt:corp:alice", "corp:platform"))  # allowed by EVERYBODY


class Reloading:
    """An engine that reloads ``data``, and its clock."""

    def __init__(self, engine: WasmEngine, clock: FakeClock, data: Path) -> None:
        self.engine = engine
        self.clock = clock
        self.data = data

    async def poll(self, times: int = 2) -> None:
        """Let it poll so many times, and finish each reload."""
        for _ in range(times):
            await self.sleeping()
            await self.clock.advance(POLL_S)
        await self.sleeping()

    async def sleeping(self) -> None:
        async with asyncio.timeout(60):
            while not self.clock.sleepers:  # noqa: ASYNC110 - it works on a thread
                await asyncio.sleep(0.002)

    async def allows(self) -> bool:
        return (await self.engine.decide(ALICE)).allowed


@asynccontextmanager
async def follow(data: Path, module: Path | None = None) -> AsyncIterator[Reloading]:
    """Open an engine that follows a file or folder."""
    clock = FakeClock()
    engine = await open_policy_engine(WasmPolicySettings(data=data, module=module), clock)
    assert isinstance(engine, WasmEngine)
    try:
        yield Reloading(engine, clock, data)
    finally:
        await engine.close()


def write(path: Path, data: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump(data))
