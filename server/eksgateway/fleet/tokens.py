"""The tokens of all targets, over one connection to PostgreSQL.

In any window the calls of all replicas to a target are at most size + rate × (window + 1 s): tokens are used
within 1 s of their draw (``target_tokens``). A crash of PostgreSQL may add the draws of its last 0.6 s.

**While PostgreSQL is away** each of the N replicas that were alive calls at its own pace: from a bucket with
1/N of the rate and of the size, which is empty at first. Together they call no faster than before. A bucket
holds at least two tokens, so N replicas may save up 2N tokens even where the size is less.

**When it is back** the row has filled up as if no call had been made. So each replica pays what it has spent,
or what its bucket lacks to be full where that is less: then the row has what it would have had. Replicas come
back within 2 s of each other. The others may use meanwhile what they have saved, at most (N - 1)/N of the
size, and pay for it then.

A replica that alone cannot reach PostgreSQL calls with its part, beside the others, which draw the full rate:
while k of N are cut off, the rate is at most 1 + k/N times as high.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from eksgateway.clock import Clock
from eksgateway.eks.token_bucket import TokenBucket
from eksgateway.errors import StartError
from eksgateway.fleet.budget_table import BudgetTable, Draw, Drawn
from eksgateway.fleet.connections import FleetUnavailable
from eksgateway.fleet.counts import FleetCounts
from eksgateway.fleet.statement_queue import StatementQueue
from eksgateway.fleet.target_tokens import TargetTokens, log_rate
from eksgateway.logs import Log
from eksgateway.model import Target

log = Log(__name__)

_RETRY_S: Final = (0.5, 1.0)


@dataclass(eq=False)
class FleetTokens:
    """``alive`` returns the number of replicas that were alive at the last answer of PostgreSQL."""

    table: BudgetTable
    calls_per_s: float
    alive: Callable[[], int]
    counts: FleetCounts
    clock: Clock
    random: random.Random = field(default_factory=random.Random)
    _targets: dict[Target, TargetTokens] = field(default_factory=dict, init=False)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set, init=False)
    _replicas: int = field(default=0, init=False)  # that share the rate, while PostgreSQL is away
    _closed: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self._batches = StatementQueue(self.table.draw)

    async def open(self, targets: Sequence[Target]) -> None:
        """Make ``calls_per_s`` the rate of all replicas, because this one has started last.

        Raises StartError.
        """
        try:
            await self._declare(targets)
        except FleetUnavailable as exc:
            raise StartError(f"the budget of EKS calls cannot be written to PostgreSQL: {exc}") from exc

    def of(self, target: Target) -> TargetTokens:
        tokens = self._targets.get(target)
        if tokens is None:
            tokens = TargetTokens(target, self.calls_per_s, self, self.clock, self.random)
            self._targets[target] = tokens
            if self._replicas:
                tokens.leave(self._replicas)
        return tokens

    async def close(self) -> None:
        """Draw nothing more."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def draw(self, draw: Draw) -> Drawn | None:
        if self._replicas or self._closed:
            return None
        try:
            drawn = await self._batches.ask(draw)
            if drawn is None:  # the row is missing
                await self._declare([draw.target])
                return None
        except FleetUnavailable as exc:
            self.counts.draws["unavailable"] += 1
            self._leave(exc)
            return None
        if draw.urgent or draw.other:
            self.counts.draws["granted" if drawn.urgent + drawn.other else "refused"] += 1
        return drawn

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _declare(self, targets: Sequence[Target]) -> None:
        bucket = TokenBucket(self.calls_per_s, 0)
        changed = await self.table.declare(targets, self.calls_per_s, bucket.reserve, bucket.size)
        for target, before in changed.items():
            log_rate(target, self.calls_per_s, before)

    def _leave(self, error: FleetUnavailable) -> None:
        if self._replicas:
            return
        self._replicas = max(1, self.alive())
        log.warning("fleet.tokens_unavailable", reason=str(error), replicas=self._replicas)
        for tokens in self._targets.values():
            tokens.leave(self._replicas)
        self.start(self._rejoin())

    async def _rejoin(self) -> None:
        """Ask again and again until PostgreSQL answers."""
        while True:
            await self.clock.sleep(self.random.uniform(*_RETRY_S))
            asked = [(tokens, tokens.spent) for tokens in self._targets.values()]
            try:
                answers = await self.table.draw([tokens.settlement() for tokens, _ in asked])
            except FleetUnavailable:
                continue
            break
        self._replicas = 0
        for (tokens, settled), drawn in zip(asked, answers, strict=True):
            tokens.rejoin(settled, drawn)
        for tokens in self._targets.values():
            if tokens not in [each for each, _ in asked]:  # it is newer than the settlement
                tokens.rejoin(0, None)
        log.info("fleet.tokens_available")
