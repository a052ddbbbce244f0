"""A simulated EKS, and adapters that call it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack

import boto3
import pytest

from eksgateway.eks.adapter import BotoEks
from eksgateway.settings import EksSettings
from support.boto_eks import ACCOUNT, REGION, MakeEks, SkippingClock, session
from support.budget import BudgetHarness
from support.gateway import PATIENT
from support.simulator import SimulatedEks


@pytest.fixture
async def simulated_eks() -> AsyncIterator[SimulatedEks]:
    async with SimulatedEks() as eks:
        yield eks


@pytest.fixture
def clock() -> SkippingClock:
    return SkippingClock()


@pytest.fixture
async def make_eks(simulated_eks: SimulatedEks, clock: SkippingClock) -> AsyncIterator[MakeEks]:
    """Adapters for the simulated EKS, closed at the end.

    ``targets`` has the differences of each target from the home target; by default there is one target.
    Other keywords are settings.
    """
    async with AsyncExitStack() as stack:

        def make(
            credentials: boto3.Session | None = None,
            targets: Sequence[Mapping[str, str]] = ({},),
            endpoint_url: str = "",
            **settings: object,
        ) -> BotoEks:
            home = {
                "account_id": ACCOUNT,
                "region": REGION,
                "endpoint_url": endpoint_url or simulated_eks.url,
            }
            known = PATIENT["eks"] | {"targets": [{**home, **each} for each in targets]} | settings
            eks = BotoEks(EksSettings.model_validate(known), clock, credentials or session())
            stack.push_async_callback(eks.close)
            return eks

        yield make


@pytest.fixture
def eks(make_eks: MakeEks) -> BotoEks:
    return make_eks()


@pytest.fixture
async def harness() -> AsyncIterator[BudgetHarness]:
    harness = BudgetHarness()
    yield harness
    for task in harness.tasks:
        task.cancel()
    await asyncio.gather(*harness.tasks, return_exceptions=True)
    await harness.budget.close()
    await harness.clock.advance()
    assert harness.clock.sleepers == 0


@pytest.fixture
async def slow() -> AsyncIterator[BudgetHarness]:
    """Eight threads, enough tokens, and an EKS that does not answer yet."""
    harness = BudgetHarness(rate=10_000, threads=8)
    harness.answer.clear()
    yield harness
    for task in harness.tasks:
        task.cancel()
    await asyncio.gather(*harness.tasks, return_exceptions=True)
