"""Many updates polled within one budget: what is known of them grows old alike, whoever watches which."""

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
    """A budget, shared reads and the watches over them; ``clock`` moves it all."""

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


async def test_intervals_stretch_alike(house: House) -> None:
    """Two hundred at five calls a second: each is looked at every 40 s, one with a thousand watchers too."""
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


async def test_throttling_makes_all_wait(house: House) -> None:
    """One update's call is throttled, and the rate of all is halved, evenly."""
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


async def test_joining_and_leaving_cost_nothing(house: House) -> None:
    """Over hours, somebody who watches alone costs as many calls as with a thousand who come and go."""

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


async def test_who_leaves_before_the_turn_costs_nothing(house: House) -> None:
    """Thousands who came and went wait for nothing, nor does anybody wait behind them."""
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


async def test_somebody_back_before_the_poller_has_ended(house: House) -> None:
    """Who comes while the last one's poll is taken away gets a state all the same, when its turn comes."""
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
