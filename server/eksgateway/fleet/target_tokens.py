"""The tokens of one target, which all replicas draw from one row."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Protocol

from eksgateway.clock import Clock, wait_for
from eksgateway.eks.token_bucket import CALLS_OF_A_CANCEL, TokenBucket
from eksgateway.eks.tokens import Waiting, log_throttled
from eksgateway.fleet.budget_table import Draw, Drawn
from eksgateway.logs import Log
from eksgateway.model import Target

log = Log(__name__)

_JITTER_S: Final = 0.05
_KEEP_S: Final = {True: 1.0, False: 0.05}  # by urgency; the calls of a cancel follow each other within 1 s


class Drawer(Protocol):
    async def draw(self, draw: Draw) -> Drawn | None:
        """None if nothing was drawn. Never fails."""

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a task until the end of the drawer."""


@dataclass(eq=False, slots=True)
class _Token:
    urgent: bool


class TargetTokens:
    """Implements ``eks.tokens.Tokens``.

    Tokens are drawn when calls wait, at most those of one second, by one statement at a time. The calls of a
    cancel are drawn together with its first. Tokens in hand that no call takes are returned.

    After ``leave`` this replica has a part of the rate for itself, until it can ``rejoin``.
    """

    def __init__(
        self, target: Target, rate: float, drawer: Drawer, clock: Clock, chance: random.Random
    ) -> None:
        self.target = target
        self.spent = 0  # tokens since ``leave``
        self._full_rate = self._rate = rate
        self._drawer = drawer
        self._clock = clock
        self._random = chance
        self._hand: list[_Token] = []
        self._back = 0.0  # tokens to return with the next draw; negative: to pay
        self._not_before = {True: -math.inf, False: -math.inf}  # when to draw again, by urgency
        self._drawing: asyncio.Task[None] | None = None
        self._clock_ahead = 0.0  # what the monotonic clock lacks to PostgreSQL's, or less
        self._own: TokenBucket | None = None
        self._rejoined = asyncio.Event()

    @property
    def rate(self) -> float:
        return self._rate if self._own is None else self._own.rate

    def take(self, now: float, *, urgent: bool, calls: int = 1) -> bool:
        taken = [token for token in self._hand if urgent or not token.urgent][:calls]
        missing = calls - len(taken)
        if missing:
            if self._own is None or not self._own.take(now, urgent=urgent, calls=missing):
                return False
            self.spent += missing
        self._hand = [token for token in self._hand if token not in taken]
        return True

    def give_back(self) -> None:
        if self._own is None:
            self._keep(1, urgent=False)
        else:
            self._own.give_back()
            self.spent -= 1

    async def refill(self, *, urgent: bool, calls: int, count: Callable[[], Waiting]) -> None:
        now = self._clock.monotonic()
        if self._own is not None:
            calls = max(1, calls - len(self._hand))
            await wait_for(self._rejoined, self._clock, self._own.wait(now, urgent=urgent, calls=calls))
            return
        if self._not_before[urgent] > now:
            await self._clock.sleep(self._not_before[urgent] - now)
        if self._drawing is not None:  # for a call that came before, or has left
            await asyncio.wait({self._drawing})
            if any(urgent or not token.urgent for token in self._hand):
                return
        self._drawing = self._drawer.start(self._draw(count()))
        await asyncio.wait({self._drawing})

    def throttle(self, now: float, began: float) -> None:
        if self._own is None:
            self._drawer.start(self._throttle(began + self._clock_ahead))
        elif self._own.throttle(now, began):
            log_throttled(self.target, self._own.rate)

    def leave(self, replicas: int) -> None:
        """Go on without the row, as one of so many replicas."""
        now = self._clock.monotonic()
        self._own = TokenBucket.share(self._full_rate, self._rate, replicas, now)
        self.spent = 0
        self._rejoined.clear()

    def settlement(self) -> Draw:
        """The draw before ``rejoin``: the row loses what this replica has spent of its part."""
        assert self._own is not None  # noqa: S101 - after ``leave``
        owed = min(self.spent, self._own.missing(self._clock.monotonic()))
        return Draw(self.target, back=self._back - owed)

    def rejoin(self, settled: int, drawn: Drawn | None) -> None:
        """Draw from the row again. ``settled`` is what was spent at the time of the settlement."""
        self._back = settled - self.spent
        self._own = None
        self._rejoined.set()
        self._not_before = {True: -math.inf, False: -math.inf}
        if drawn is not None:
            self._learn(drawn)

    async def _draw(self, waiting: Waiting) -> None:
        most = max(CALLS_OF_A_CANCEL, int(self._rate))
        held = len(self._hand)  # too few for the reads of a cancel
        urgent = max(0, min(waiting.urgent + waiting.soon, most) - held)
        other = min(waiting.other, max(1, int(self._rate)))
        try:
            if not urgent and not other:
                return
            self._not_before = dict.fromkeys((True, False), self._clock.monotonic() + _JITTER_S)
            drawn = await self._ask(Draw(self.target, urgent, other))
            if drawn is None:
                return
            self._keep(drawn.urgent, urgent=True)
            self._keep(drawn.other, urgent=False)
            again = self._clock.monotonic() + drawn.wait + self._random.random() * _JITTER_S
            refused = drawn.urgent + held < min(waiting.urgent, most), drawn.other < other
            self._not_before = {
                True: again if refused[0] else -math.inf,
                False: again if any(refused) else -math.inf,
            }
        finally:
            self._drawing = None

    async def _throttle(self, began: float) -> None:
        drawn = await self._ask(Draw(self.target, throttled=began))
        if drawn is not None and drawn.halved:
            log_throttled(self.target, drawn.rate)

    async def _return(self) -> None:
        await self._ask(Draw(self.target))

    async def _ask(self, draw: Draw) -> Drawn | None:
        back, self._back = self._back, 0.0
        drawn = await self._drawer.draw(replace(draw, back=back))
        if drawn is None:
            self._back += min(0.0, back)
        else:
            self._learn(drawn)
        return drawn

    def _learn(self, drawn: Drawn) -> None:
        self._clock_ahead = drawn.time - self._clock.monotonic()
        if drawn.full_rate != self._full_rate:
            log_rate(self.target, drawn.full_rate, before=self._full_rate)
        self._full_rate, self._rate = drawn.full_rate, drawn.rate

    def _keep(self, count: int, *, urgent: bool) -> None:
        if count:
            tokens = [_Token(urgent) for _ in range(count)]
            self._hand += tokens
            self._clock.call_later(_KEEP_S[urgent], partial(self._drop, tokens))

    def _drop(self, tokens: list[_Token]) -> None:
        left = [token for token in tokens if token in self._hand]
        if left:
            self._hand = [token for token in self._hand if token not in left]
            self._back += len(left)
            self._drawer.start(self._return())


def log_rate(target: Target, rate: float, before: float) -> None:
    log.warning(
        "fleet.calls_per_s_changed",
        account=target.account_id,
        region=target.region,
        calls_per_s=rate,
        before=before,
    )
