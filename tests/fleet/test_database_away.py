"""What a gateway does while its PostgreSQL is away."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from eksgateway.v1 import update_service_pb2 as pb
from support.fleet.replicas import Fleet, run_fleet
from support.wire import PRODUCTION, expect_refusal

COMMIT_S = 2
MARGIN_S = 3  # for a loaded machine

Away = Callable[[Fleet], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def stopped(fleet: Fleet) -> AsyncIterator[None]:
    await fleet.stop_postgres()
    yield
    await fleet.start_postgres()


@asynccontextmanager
async def crashed(fleet: Fleet) -> AsyncIterator[None]:
    await fleet.stop_postgres(signal.SIGQUIT)
    yield
    await fleet.start_postgres()


@asynccontextmanager
async def frozen(fleet: Fleet) -> AsyncIterator[None]:
    fleet.freeze_postgres()
    try:
        yield
    finally:
        fleet.wake_postgres()


@asynccontextmanager
async def silent(fleet: Fleet) -> AsyncIterator[None]:
    for replica in fleet.replicas:
        replica.network.silence()
    yield
    for replica in fleet.replicas:
        replica.network.restore()


async def read_until(stream: Any, status: str) -> pb.WatchUpdateResponse:
    async with asyncio.timeout(60):
        while True:
            event: pb.WatchUpdateResponse = await stream.read()
            if event.update.status == status:
                return event


@pytest.mark.parametrize(
    ("away", "at_once"),
    [(stopped, True), (crashed, True), (frozen, False), (silent, False)],
    ids=["stopped", "crashed", "frozen", "silent"],
)
async def test_cancels_are_refused_and_watches_go_on(tmp_path: Path, away: Away, *, at_once: bool) -> None:
    """Readiness is off. Once PostgreSQL is back, the same cancel succeeds without a restart."""
    sections: dict[str, Any] = {
        "ledger": {"commit_timeout_s": COMMIT_S},
        "watch": {"poll_s": 0.2, "heartbeat_s": 1},
    }
    async with run_fleet(tmp_path, 2, **sections) as fleet:
        update_id = fleet.eks.rollback("prod-1", tags=PRODUCTION)
        one, two = (replica.client for replica in fleet.replicas)
        streams = [each.watch("prod-1", update_id) for each in (one, two)]
        for stream in streams:
            await read_until(stream, "InProgress")
        async with away(fleet):
            for _ in range(2):
                began = time.monotonic()
                refusal = await expect_refusal(one.cancel("prod-1", update_id, request_id="r-1"))
                took = time.monotonic() - began
                assert refusal.reason == "LEDGER_UNAVAILABLE"
                assert took < (MARGIN_S if at_once else COMMIT_S + MARGIN_S)
            for each in (one, two):
                await each.wait_for_readiness(ready=False)
            fleet.eks.set_update("prod-1", update_id, status="Pending")
            for stream in streams:
                await read_until(stream, "Pending")
            fleet.eks.set_update("prod-1", update_id, status="InProgress")
        assert fleet.eks.count("CancelUpdate") == 0
        for each in (one, two):
            await each.wait_for_readiness()
        await one.cancel("prod-1", update_id, request_id="r-1")
        assert fleet.eks.count("CancelUpdate") == 1
        for stream in streams:
            await read_until(stream, "Cancelling")
            stream.cancel()
