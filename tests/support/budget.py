"""A budget of EKS calls on a clock that only the test advances, and the calls that it made."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

from eksgateway.eks.budget import Budget
from eksgateway.eks.target_budget import Lane, PendingCall
from eksgateway.model import Target
from support.clock import FakeClock

RATE = 5
HERE, THERE = Target("111122223333", "us-east-1"), Target("111122223333", "eu-west-1")


@dataclass
class BudgetHarness:
    """A budget and the calls that it made, in order. The fixture ends every task that starts here."""

    clock: FakeClock = field(default_factory=FakeClock)
    called: list[tuple[Lane, Hashable, float]] = field(default_factory=list)
    tasks: list[asyncio.Task[Any]] = field(default_factory=list)
    rate: float = RATE
    threads: int = 1000
    answer: asyncio.Event = field(default_factory=asyncio.Event)  # EKS answers once it is set
    budget: Budget = field(init=False)

    def __post_init__(self) -> None:
        self.answer.set()
        self.budget = Budget(self.rate, self.clock, self.threads)

    def work(
        self, lane: Lane, key: Hashable, error: Exception | None = None
    ) -> Callable[[], Awaitable[None]]:
        async def call() -> None:
            self.called.append((lane, key, self.clock.monotonic()))
            await self.answer.wait()
            if error is not None:
                raise error

        return call

    def start(
        self,
        lane: Lane,
        key: Hashable = "k",
        target: Target = HERE,
        until: float = float("inf"),
        error: Exception | None = None,
    ) -> asyncio.Task[None]:
        """Start a call, made when its turn comes."""
        work = self.work(lane, key, error)
        task = asyncio.create_task(self.budget.call(lane, target, key, work, until))
        self.tasks.append(task)
        return task

    def start_reads(
        self, key: Hashable = "k", first: Exception | None = None, second: Exception | None = None
    ) -> asyncio.Task[tuple[None, None]]:
        """Start the two reads of a cancel, with the error of each."""
        works = (self.work(Lane.CANCEL, (key, each), error) for each, error in ((1, first), (2, second)))
        task = asyncio.create_task(self.budget.call_both(HERE, key, *works))
        self.tasks.append(task)
        return task

    def start_pending(self, lane: Lane, key: Hashable, caller: Hashable = "k") -> PendingCall:
        """Start a call that others can join until its turn comes."""
        waiting = PendingCall(lane, [caller])
        self.tasks.append(asyncio.create_task(self.budget.call_pending(waiting, HERE, self.work(lane, key))))
        return waiting

    async def poll(self, key: Hashable) -> None:
        """Poll without a pause."""
        while True:
            await self.budget.call(Lane.POLL, HERE, key, self.work(Lane.POLL, key))

    async def spend(self) -> None:
        """Use up the tokens saved for reads."""
        for _ in range(RATE):
            self.start(Lane.POLL, "spent")
        await self.clock.advance()
        self.called.clear()

    def order(self, *lanes: Lane) -> list[Hashable]:
        """The keys that were called, in order."""
        return [key for lane, key, _ in self.called if not lanes or lane in lanes]
