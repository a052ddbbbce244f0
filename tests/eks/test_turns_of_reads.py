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
class Desk:
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
async def desk() -> AsyncIterator[Desk]:
    desk = Desk()
    await desk.set_up()
    yield desk
    for task in desk.tasks:
        task.cancel()
    await asyncio.gather(*desk.tasks, return_exceptions=True)
    await desk.clock.advance()
    await desk.budget.close()
    await desk.clock.advance()
    assert desk.clock.sleepers == 0


async def test_a_waiting_call_is_joined_at_any_age(desk: Desk) -> None:
    """Its result has the time of the call, which begins later."""
    (polled,) = await desk.start(desk.reads.poll(ref(0), 0))
    await desk.clock.advance(0.15)
    (asked,) = await desk.start(desk.reads.update(ref(0), 0, 0))
    await desk.clock.advance(0.15)
    seen = await polled
    assert seen is not None
    assert [time for _, time in desk.eks.calls] == [seen.stamp]
    assert (await asked).stamp == seen.stamp


async def test_a_poll_that_a_caller_joins_is_served_before_other_polls(desk: Desk) -> None:
    await desk.start(*(desk.reads.poll(ref(number), 0) for number in range(100)))
    (asked,) = await desk.start(desk.reads.update(ref(99), 30, 99))
    await desk.clock.advance(0.5)
    assert asked.done()
    await desk.clock.advance(20)
    assert len(desk.eks.times(ref(99))) == 1
    assert len(desk.eks.calls) == 100


async def test_reads_beyond_the_limit_are_overloaded_and_polls_go_on(desk: Desk) -> None:
    polls = await desk.start(*(desk.reads.poll(ref(number), 0) for number in range(60)))
    asked = await desk.start(*(desk.reads.update(ref(number), 30, number) for number in range(60)))
    refused = [task for task in asked if task.done()]
    assert len(refused) == 60 - RATE * 10 // 2
    with pytest.raises(Overloaded):
        await refused[0]
    await desk.clock.advance(13)
    assert all(task.done() for task in polls)
    assert {seen.update.status for seen in await asyncio.gather(*polls)} == {"InProgress"}


async def test_a_poll_waits_on_when_the_read_that_it_joined_is_overloaded(desk: Desk) -> None:
    asked = await desk.start(*(desk.reads.update(ref(number), 30, number) for number in range(20)))
    (poll,) = await desk.start(desk.reads.poll(ref(19), 30))
    desk.eks.error = EksThrottled()
    await desk.clock.advance(9)
    desk.eks.error = None
    await desk.clock.advance(60)
    with pytest.raises(Overloaded):
        await asked[19]
    assert (await poll).update.status == "InProgress"
    assert len(desk.eks.times(ref(19))) == 1


async def test_a_call_that_every_caller_left_is_not_made(desk: Desk) -> None:
    """A later caller starts another call."""
    first, second = await desk.start(desk.reads.update(ref(0), 30, 0), desk.reads.poll(ref(0), 30))
    first.cancel()
    await desk.clock.advance()
    second.cancel()
    await desk.clock.advance(10)
    assert not desk.eks.calls
    await desk.start(desk.reads.poll(ref(1), 30))
    (third,) = await desk.start(desk.reads.update(ref(0), 30, 0))
    third.cancel()
    (fourth,) = await desk.start(desk.reads.update(ref(0), 30, 0))
    await desk.clock.advance(1)
    assert fourth.done()
    assert len(desk.eks.times(ref(0))) == 1


async def test_a_caller_gets_the_result_after_another_left(desk: Desk) -> None:
    gone, stays = await desk.start(desk.reads.update(ref(0), 30, 0), desk.reads.poll(ref(0), 30))
    gone.cancel()
    await desk.clock.advance(1)
    assert (await stays).update.status == "InProgress"
