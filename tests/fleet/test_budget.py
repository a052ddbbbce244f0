"""The budget of EKS calls over several gateways on the wire."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from support.gateway import RunningGateway, run_gateway
from support.postgres import LedgerDatabase
from support.simulator import SimulatedEks
from support.waiting import wait_until

RATE = 10


@pytest.fixture
async def eks() -> AsyncIterator[SimulatedEks]:
    async with SimulatedEks() as eks:
        yield eks


@pytest.fixture
def settings(ledger_database: LedgerDatabase) -> dict[str, Any]:
    return {"ledger": {"url": ledger_database.url}, "eks": {"calls_per_s": RATE}}


async def test_a_lone_cancel_draws_once(tmp_path: Path, eks: SimulatedEks, settings: dict[str, Any]) -> None:
    """The tokens of its three calls come with one round trip."""
    settings["watch"] = {"follow_s": 300}  # no poll follows
    async with run_gateway(tmp_path, eks, **settings) as gateway:
        answer = await gateway.cancel("staging-1", eks.rollback("staging-1"))
        assert answer.update.status == "Cancelling"
        fleet: Any = gateway.gateway.fleet
        assert fleet.counts.draws["granted"] == 1
        assert len(eks.calls()) == 3


@pytest.fixture
async def gateways(
    tmp_path: Path, eks: SimulatedEks, settings: dict[str, Any]
) -> AsyncIterator[list[RunningGateway]]:
    """Three that may make ten calls a second together."""
    async with AsyncExitStack() as stack:
        running = []
        for name in "abc":
            (tmp_path / name).mkdir()
            running.append(await stack.enter_async_context(run_gateway(tmp_path / name, eks, **settings)))
        yield running


async def test_watches_on_all_gateways_keep_one_budget(
    gateways: list[RunningGateway], eks: SimulatedEks
) -> None:
    """Sixty updates are polled as often as may be, and a cancel does not wait."""
    streams = []
    for number in range(60):
        cluster = f"prod-{number}"
        gateway = gateways[number % 3]
        streams.append(gateway.watch(cluster, eks.rollback(cluster), gateway.viewer))
    wanted = eks.rollback("staging-1")
    await wait_until(lambda: len(eks.calls()) > 6 * RATE)
    await gateways[1].cancel("staging-1", wanted, gateways[1].credentials("oncall", "oncall"), ticket="T-1")
    calls = sorted(call.time.timestamp() for call in eks.calls())
    worst = max(
        last - first + 1 - RATE * (calls[last] - calls[first])
        for first in range(len(calls))
        for last in range(first, len(calls))
    )
    assert worst <= 2 * RATE + RATE * 0.3
    for stream in streams:
        stream.cancel()
