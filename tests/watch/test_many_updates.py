"""Many updates polled within one budget: their ages stay equal, however many watchers each has."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random

import pytest

from eksgateway.eks.budget import Budget
from eksgateway.eks.shared_reads import SharedReads
from eksgateway.errors import EksThrottled
from eksgateway.model import UpdateRef
from eksgateway.settings import WatchSettings
from eksgateway.watch.watches import Watches
from support.clock import FakeClock
from support.instant_eks import InstantEks
from support.watching import CLUSTER, FakeRecord

RATE = 5


def ref(number: int) -> UpdateRef:
    return UpdateRef(CLUSTER, f"update-{number}")


@dataclass
class House:
    """A budget, shared reads and the watches that use them, on one clock."""

    clock: FakeClock = field(default_factory=FakeClock)
    eks: InstantEks = field(init=False)
    reads: SharedReads = field(init=False)
    watches: Watches = field(init=False)

    def __post_init__(self) -> None:
        self.eks = InstantEks(self.clock)
        self.budget = Budget(RATE, self.clock)
        self.reads = SharedReads(self.eks, self.budget, self.clock)
        self.watches = Watches(self.reads, FakeRecord(), self.clock, WatchSettings(), Random(1))


@pytest.fixture
async def house() -> AsyncIterator[House]:
    house = House()
    yield house
    await house.watches.close()
    await house.clock.advance()
    await house.budget.close()
    await house.clock.advance()
    assert house.clock.sleepers == 0


async def test_intervals_of_all_updates_stretch_equally(house: House) -> None:
    """200 updates at five calls per second: one poll per 40 s each, also with a thousand watchers."""
    with ExitStack() as stack:
        for number in range(200):
            for _ in range(1000 if number == 7 else 1):
                stack.enter_context(house.watches.subscribe(ref(number)))
        await house.clock.advance(40)
        house.eks.calls.clear()
        await house.clock.advance(160)
        assert len(house.eks.calls) == pytest.approx(160 * RATE, abs=1)
        counts = Counter(called for called, _ in house.eks.calls)
        assert len(counts) == 200
        assert set(counts.values()) <= {3, 4, 5}
        gaps = [
            after - before
            for number in range(200)
            for before, after in pairwise(house.eks.times(ref(number)))
        ]
        assert max(gaps) - min(gaps) < 3  # the jitter of the rests before the turns


async def test_throttling_slows_all_updates_equally(house: House) -> None:
    with ExitStack() as stack:
        for number in range(100):
            stack.enter_context(house.watches.subscribe(ref(number)))
        await house.clock.advance(60)
        house.eks.error = EksThrottled()
        await house.clock.advance(0.2)
        house.eks.error = None
        house.eks.calls.clear()
        await house.clock.advance(4)
        assert len(house.eks.calls) == pytest.approx(4 * RATE / 2, abs=2)
        assert max(Counter(called for called, _ in house.eks.calls).values()) == 1


async def test_watchers_that_come_and_go_cost_no_calls(house: House) -> None:
    """Over two hours, a thousand of them cost as many calls as one watcher that stays."""

    async def calls(joins: int) -> int:
        house.eks.calls.clear()
        began, random = house.clock.monotonic(), Random(2)
        with house.watches.subscribe(ref(0)), ExitStack() as stack:
            for when in sorted(random.uniform(1, 7200) for _ in range(joins)):
                await house.clock.advance(began + when - house.clock.monotonic())
                await house.reads.update(ref(0), 30, "ann")  # what the servicer decides on
                with house.watches.subscribe(ref(0)) as watcher:
                    assert await watcher.next(0) is not None
                stack.enter_context(house.watches.subscribe(ref(0)))
            await house.clock.advance(began + 7200 - house.clock.monotonic())
        return len(house.eks.calls)

    alone = await calls(0)
    assert alone < 7200 / 14  # slow, as nothing changes
    await house.clock.advance(60)
    assert await calls(1000) == pytest.approx(alone, rel=0.02)


async def test_watcher_that_leaves_before_its_poll_costs_no_call(house: House) -> None:
    """Thousands of them delay no other poll."""
    with ExitStack() as stack:
        for number in range(50):
            stack.enter_context(house.watches.subscribe(ref(number)))
        await house.clock.advance()
        for number in range(100, 3100):
            with house.watches.subscribe(ref(number)):
                if number % 100 == 0:
                    await house.clock.advance()
        await house.clock.advance()
        assert house.watches.pollers == 50
        house.eks.calls.clear()
        await house.clock.advance(20)
        assert {called for called, _ in house.eks.calls} <= {ref(number) for number in range(50)}


async def test_watcher_that_returns_while_the_poll_is_cancelled_gets_a_state(house: House) -> None:
    """At the poll's turn."""
    with ExitStack() as stack:
        for number in range(50):
            stack.enter_context(house.watches.subscribe(ref(number)))
        await house.clock.advance()
        with ExitStack() as first:
            first.enter_context(house.watches.subscribe(ref(99)))
            await house.clock.advance(1)
            first.close()
            watcher = stack.enter_context(house.watches.subscribe(ref(99)))
        await house.clock.advance(11)
        assert await watcher.next(0) is not None
        assert len(house.eks.times(ref(99))) == 1
