"""Shared reads that wait for their turn in the budget."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest

from eksgateway.eks.budget import Budget
from eksgateway.eks.shared_reads import SeenUpdate, SharedReads
from eksgateway.errors import EksThrottled, Overloaded
from eksgateway.model import ClusterRef, UpdateRef
from support.clock import FakeClock
from support.instant_eks import InstantEks

RATE = 5
CLUSTER = ClusterRef("111122223333", "us-east-1", "blue")


def ref(number: int) -> UpdateRef:
    return UpdateRef(CLUSTER, f"u-{number}")


@dataclass
class ReadsHarness:
    """Reads in a budget without tokens left, so that each read waits."""

    clock: FakeClock = field(default_factory=FakeClock)
    tasks: list[asyncio.Task[Any]] = field(default_factory=list)
    eks: InstantEks = field(init=False)
    budget: Budget = field(init=False)
    reads: SharedReads = field(init=False)

    async def set_up(self) -> None:
        self.eks = InstantEks(self.clock)
        self.budget = Budget(RATE, self.clock)
        self.reads = SharedReads(self.eks, self.budget, self.clock)
        for number in range(RATE):
            await self.reads.poll(ref(-number - 1), 0)
        self.eks.calls.clear()

    async def start(self, *reads: Coroutine[Any, Any, SeenUpdate]) -> list[asyncio.Task[SeenUpdate]]:
        tasks = [asyncio.create_task(read) for read in reads]
        self.tasks += tasks
        await self.clock.advance()
        return tasks


@pytest.fixture
async def harness() -> AsyncIterator[ReadsHarness]:
    harness = ReadsHarness()
    await harness.set_up()
    yield harness
    for task in harness.tasks:
        task.cancel()
    await asyncio.gather(*harness.tasks, return_exceptions=True)
    await harness.clock.advance()
    await harness.budget.close()
    await harness.clock.advance()
    assert harness.clock.sleepers == 0


async def test_a_waiting_call_is_joined_at_any_age(harness: ReadsHarness) -> None:
    """Its result has the time of the call, which begins later."""
    (polled,) = await harness.start(harness.reads.poll(ref(0), 0))
    await harness.clock.advance(0.15)
    (asked,) = await harness.start(harness.reads.update(ref(0), 0, 0))
    await harness.clock.advance(0.15)
    seen = await polled
    assert seen is not None
    assert [time for _, time in harness.eks.calls] == [seen.began]
    assert (await asked).began == seen.began


async def test_a_poll_that_a_caller_joins_is_served_before_other_polls(harness: ReadsHarness) -> None:
    await harness.start(*(harness.reads.poll(ref(number), 0) for number in range(100)))
    (asked,) = await harness.start(harness.reads.update(ref(99), 30, 99))
    await harness.clock.advance(0.5)
    assert asked.done()
    await harness.clock.advance(20)
    assert len(harness.eks.times(ref(99))) == 1
    assert len(harness.eks.calls) == 100


async def test_reads_beyond_the_limit_are_overloaded_and_polls_go_on(harness: ReadsHarness) -> None:
    polls = await harness.start(*(harness.reads.poll(ref(number), 0) for number in range(60)))
    asked = await harness.start(*(harness.reads.update(ref(number), 30, number) for number in range(60)))
    refused = [task for task in asked if task.done()]
    assert len(refused) == 60 - RATE * 10 // 2
    with pytest.raises(Overloaded):
        await refused[0]
    await harness.clock.advance(13)
    assert all(task.done() for task in polls)
    assert {seen.update.status for seen in await asyncio.gather(*polls)} == {"InProgress"}


async def test_a_poll_waits_on_when_the_read_that_it_joined_is_overloaded(harness: ReadsHarness) -> None:
    asked = await harness.start(*(harness.reads.update(ref(number), 30, number) for number in range(20)))
    (poll,) = await harness.start(harness.reads.poll(ref(19), 30))
    harness.eks.error = EksThrottled()
    await harness.clock.advance(9)
    harness.eks.error = None
    await harness.clock.advance(60)
    with pytest.raises(Overloaded):
        await asked[19]
    assert (await poll).update.status == "InProgress"
    assert len(harness.eks.times(ref(19))) == 1


async def test_a_call_that_every_caller_left_is_not_made(harness: ReadsHarness) -> None:
    """A later caller starts another call."""
    first, second = await harness.start(harness.reads.update(ref(0), 30, 0), harness.reads.poll(ref(0), 30))
    first.cancel()
    await harness.clock.advance()
    second.cancel()
    await harness.clock.advance(10)
    assert not harness.eks.calls
    await harness.start(harness.reads.poll(ref(1), 30))
    (third,) = await harness.start(harness.reads.update(ref(0), 30, 0))
    third.cancel()
    (fourth,) = await harness.start(harness.reads.update(ref(0), 30, 0))
    await harness.clock.advance(1)
    assert fourth.done()
    assert len(harness.eks.times(ref(0))) == 1


async def test_a_caller_gets_the_result_after_another_left(harness: ReadsHarness) -> None:
    gone, stays = await harness.start(harness.reads.update(ref(0), 30, 0), harness.reads.poll(ref(0), 30))
    gone.cancel()
    await harness.clock.advance(1)
    assert (await stays).update.status == "InProgress"
