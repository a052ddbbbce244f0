"""When a replica draws, and what it does with the tokens: on a clock that only the test advances."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest

from eksgateway.eks.budget import Budget
from eksgateway.eks.target_budget import Lane
from eksgateway.errors import EksThrottled
from eksgateway.fleet.budget_table import Draw, Drawn
from eksgateway.fleet.target_tokens import TargetTokens
from eksgateway.model import Target
from support.clock import FakeClock

RATE = 5.0
HERE = Target("111122223333", "us-east-1")


@dataclass
class FakeDrawer:
    """Grants ``urgent`` and ``other`` tokens, once ``answer`` is set. ``draws`` has times too."""

    clock: FakeClock
    urgent: int = 0
    other: int = 0
    wait: float = 0.2
    away: bool = False
    draws: list[tuple[float, Draw]] = field(default_factory=list)
    answer: asyncio.Event = field(default_factory=asyncio.Event)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.answer.set()

    async def draw(self, draw: Draw) -> Drawn | None:
        self.draws.append((self.clock.monotonic(), draw))
        await self.answer.wait()
        if self.away:
            return None
        urgent, other = min(draw.urgent, self.urgent), min(draw.other, self.other)
        self.urgent -= urgent
        self.other -= other
        wait = self.wait if (urgent, other) != (draw.urgent, draw.other) else 0
        halved = draw.throttled is not None
        return Drawn(urgent, other, wait, RATE, RATE, self.clock.monotonic() + 1000, halved)

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self.tasks.add(task)
        return task


@dataclass
class Harness:
    clock: FakeClock
    drawer: FakeDrawer
    tokens: TargetTokens
    budget: Budget
    called: list[tuple[float, Lane]] = field(default_factory=list)
    tasks: list[asyncio.Task[Any]] = field(default_factory=list)

    def start(self, lane: Lane, caller: object = "k") -> asyncio.Task[None]:
        task = asyncio.create_task(self.budget.call(lane, HERE, caller, self.work(lane)))
        self.tasks.append(task)
        return task

    def start_reads(self, caller: object = "k") -> asyncio.Task[tuple[None, None]]:
        """Start the two reads of a cancel."""
        read = self.work(Lane.CANCEL)
        task = asyncio.create_task(self.budget.call_both(HERE, caller, read, read))
        self.tasks.append(task)
        return task

    def work(self, lane: Lane) -> Callable[[], Awaitable[None]]:
        async def call() -> None:
            self.called.append((self.clock.monotonic(), lane))

        return call

    @property
    def draws(self) -> list[Draw]:
        return [draw for _, draw in self.drawer.draws]


@pytest.fixture
async def harness() -> AsyncIterator[Harness]:
    clock = FakeClock()
    drawer = FakeDrawer(clock)
    tokens = TargetTokens(HERE, RATE, drawer, clock, random.Random(1))
    harness = Harness(clock, drawer, tokens, Budget(RATE, clock, tokens=lambda _: tokens))
    yield harness
    drawer.answer.set()
    for task in (*harness.tasks, *drawer.tasks):
        task.cancel()
    await asyncio.gather(*harness.tasks, *drawer.tasks, return_exceptions=True)
    await harness.budget.close()


async def test_one_draw_is_for_all_that_wait(harness: Harness) -> None:
    """At most for the calls of one second."""
    harness.drawer.other = 9
    for number in range(20):
        harness.start(Lane.POLL, number)
    await harness.clock.advance()
    assert [draw.other for draw in harness.draws] == [5, 5]
    assert len(harness.called) == 9


async def test_the_reads_of_a_cancel_draw_for_all_three_calls(harness: Harness) -> None:
    harness.drawer.urgent = 9
    harness.start_reads()
    await harness.clock.advance(0.1)
    harness.start(Lane.FORWARD)
    await harness.clock.advance(0.1)
    assert [lane for _, lane in harness.called] == [Lane.CANCEL, Lane.CANCEL, Lane.FORWARD]
    assert [draw.urgent for draw in harness.draws] == [3]


async def test_the_reads_of_a_cancel_wait_for_the_second_token(harness: Harness) -> None:
    """Tokens that the row grants before stay in hand for another urgent call, and are not drawn twice."""
    harness.drawer.urgent = 1
    harness.start_reads()
    await harness.clock.advance(0.1)
    assert harness.called == []
    harness.drawer.urgent = 9
    await harness.clock.advance(0.2)
    assert [lane for _, lane in harness.called] == [Lane.CANCEL, Lane.CANCEL]
    assert [draw.urgent for draw in harness.draws] == [3, 2]
    harness.start(Lane.FORWARD)
    await harness.clock.advance()
    assert len(harness.draws) == 2


async def test_a_replica_on_its_own_makes_both_reads_of_a_cancel(harness: Harness) -> None:
    """Also where its part of the size is one token. It pays for both."""
    harness.tokens.leave(10)
    harness.start_reads()
    await harness.clock.advance(4.1)
    assert [lane for _, lane in harness.called] == [Lane.CANCEL, Lane.CANCEL]
    assert harness.tokens.spent == 2


async def test_after_a_refusal_it_comes_back_when_a_token_is_due(harness: Harness) -> None:
    """And up to 50 ms later. The end of another call does not make it draw before."""
    harness.drawer.other = 1
    for number in range(3):
        harness.start(Lane.POLL, number)
    await harness.clock.advance(0.1)
    harness.start(Lane.POLL, "later")
    await harness.clock.advance(0.9)
    times = [time for time, _ in harness.drawer.draws]
    gaps = [after - before for before, after in pairwise(times)]
    assert 4 <= len(gaps) <= 5
    assert all(0.2 <= gap <= 0.25 for gap in gaps)


async def test_an_urgent_call_draws_at_once(harness: Harness) -> None:
    """Also while the draw of others is under way: then it is the next one."""
    harness.start(Lane.POLL)
    await harness.clock.advance(0.01)
    harness.drawer.urgent = 2
    harness.start(Lane.FORWARD)
    await harness.clock.advance()
    [(time, lane)] = harness.called
    assert (time, lane) == (harness.clock.monotonic(), Lane.FORWARD)
    await harness.clock.advance(0.2)
    harness.drawer.answer.clear()
    await harness.clock.advance(0.3)
    harness.start(Lane.FORWARD)
    await harness.clock.advance()
    drawn = len(harness.draws)
    assert harness.draws[-1].urgent == 0
    harness.drawer.answer.set()
    await harness.clock.advance()
    assert harness.draws[drawn].urgent == 1
    assert [lane for _, lane in harness.called] == [Lane.FORWARD] * 2


async def test_one_draw_is_under_way_at_a_time(harness: Harness) -> None:
    harness.drawer.answer.clear()
    for number in range(5):
        harness.start(Lane.FORWARD, number)
        harness.start(Lane.POLL, number)
        await harness.clock.advance(0.3)
    assert len(harness.draws) == 1


async def test_tokens_that_no_call_takes_are_returned(harness: Harness) -> None:
    """Others after 50 ms, urgent ones after 1 s, because the next call of a cancel comes later."""
    harness.drawer.urgent = harness.drawer.other = 9
    harness.start_reads()
    await harness.clock.advance(0.99)
    assert [draw.back for draw in harness.draws] == [0]
    await harness.clock.advance(0.02)
    assert [draw.back for draw in harness.draws] == [0, 1]
    harness.drawer.answer.clear()
    gone = harness.start(Lane.READ)
    await harness.clock.advance()
    gone.cancel()
    harness.drawer.answer.set()
    await harness.clock.advance(0.06)
    assert [draw.back for draw in harness.draws[2:]] == [0, 1]


async def test_a_cancelled_call_loses_no_token(harness: Harness) -> None:
    """The draw goes on, and the next call takes what it brings."""
    harness.drawer.other = 1
    harness.drawer.answer.clear()
    gone = harness.start(Lane.POLL)
    await harness.clock.advance()
    gone.cancel()
    harness.start(Lane.POLL, "next")
    harness.drawer.answer.set()
    await harness.clock.advance()
    assert len(harness.called) == 1
    assert len(harness.draws) == 1


async def test_throttling_names_the_time_of_the_call(harness: Harness) -> None:
    """By PostgreSQL's clock, which is 1000 s ahead here."""
    harness.drawer.urgent = 9

    async def fail() -> None:
        raise EksThrottled

    await asyncio.gather(harness.budget.call(Lane.FORWARD, HERE, "k", fail), return_exceptions=True)
    await harness.clock.advance()
    assert harness.draws[-1].throttled == pytest.approx(2000)


async def test_a_replica_on_its_own_pays_what_it_spent(harness: Harness) -> None:
    """At most what its part of the size lacks, however long it lasted."""
    for number in range(50):
        harness.start(Lane.POLL, number)
    harness.tokens.leave(replicas=2)
    await harness.clock.advance(1.61)
    assert len(harness.called) == 4  # 2.5 a second, and none at first
    assert harness.tokens.settlement().back == -4
    await harness.clock.advance(4)
    assert harness.tokens.settlement().back == pytest.approx(-5, abs=1.01)  # half the size


async def test_a_part_that_was_not_used_is_not_paid(harness: Harness) -> None:
    harness.tokens.leave(replicas=2)
    await harness.clock.advance(0.5)
    harness.start(Lane.POLL)
    await harness.clock.advance()
    assert len(harness.called) == 1
    await harness.clock.advance(60)
    assert harness.tokens.settlement().back == 0


async def test_calls_made_during_the_settlement_are_paid_with_the_next_draw(harness: Harness) -> None:
    harness.tokens.leave(replicas=1)
    await harness.clock.advance(1)
    settled = harness.tokens.spent
    harness.start(Lane.POLL)
    await harness.clock.advance()
    harness.tokens.rejoin(settled, None)
    harness.start(Lane.POLL, "next")
    await harness.clock.advance()
    assert harness.draws[-1].back == -1
