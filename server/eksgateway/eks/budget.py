"""The budget that every call to EKS passes. Each try takes a token."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import Final, TypeVar

from eksgateway.clock import Clock
from eksgateway.eks.side_by_side import do_both
from eksgateway.eks.target_budget import Lane, PendingCall, TargetBudget
from eksgateway.eks.tokens import LocalTokens, Tokens
from eksgateway.errors import EksThrottled, EksUnavailable
from eksgateway.model import Target

T = TypeVar("T")
U = TypeVar("U")

_TRIES: Final = {Lane.FORWARD: 1, Lane.CANCEL: 2, Lane.READ: 2, Lane.POLL: 1}
_RETRY_S: Final = 0.2  # before the second try of 5 s, so that both fit into the 30 s of an RPC


class TurnUnused(Exception):
    """Raised by the work of a call at its turn: EKS was not called, and the token is given back."""


@dataclass(eq=False)
class Budget:
    """``calls_per_s`` to each target, and ``threads`` calls at once. Belongs to one event loop.

    ``tokens`` returns those of a target. Without it, this gateway has all calls for itself.
    """

    calls_per_s: float
    clock: Clock
    threads: int = 1000
    tokens: Callable[[Target], Tokens] | None = None
    _targets: dict[Target, TargetBudget] = field(default_factory=dict, init=False)

    async def call(
        self,
        lane: Lane,
        target: Target,
        caller: Hashable,
        work: Callable[[], Awaitable[T]],
        until: float = math.inf,
    ) -> T:
        """Do ``work``, one call to EKS, when its turn comes.

        Raises Overloaded if the turn does not come within ``TURN_WAIT_S``. In the lane FORWARD, raises
        DecisionStale if it does not come before ``until`` (monotonic). A poll waits as long as it takes.
        """
        return await self.call_pending(PendingCall(lane, [caller]), target, work, until)

    async def call_pending(
        self, pending: PendingCall, target: Target, work: Callable[[], Awaitable[T]], until: float = math.inf
    ) -> T:
        """Like ``call``, for every caller of ``pending``, including those that ``join`` before its turn."""
        lane = await self._of(target).wait_for_turn(pending, until)
        return await self._make(lane, pending, target, work, until)

    async def call_both(
        self,
        target: Target,
        caller: Hashable,
        first: Callable[[], Awaitable[T]],
        second: Callable[[], Awaitable[U]],
    ) -> tuple[T, U]:
        """Do two reads of a cancel side by side when their turn comes. It takes both tokens at once.

        Raises as ``call`` does, the error of ``first`` first.
        """
        budget, lane = self._of(target), Lane.CANCEL
        await budget.wait_for_turn(PendingCall(lane, [caller], calls=2), math.inf)
        has_begun = False

        async def make_second() -> U:
            nonlocal has_begun
            has_begun = True
            return await self._make(lane, PendingCall(lane, [caller]), target, second)

        try:
            return await do_both(self._make(lane, PendingCall(lane, [caller]), target, first), make_second())
        finally:
            if not has_begun:  # the first failed at once
                budget.give_back()
                budget.end(lane)

    async def _make(
        self,
        lane: Lane,
        pending: PendingCall,
        target: Target,
        work: Callable[[], Awaitable[T]],
        until: float = math.inf,
    ) -> T:
        """Do ``work`` at its turn, and again at another one if that may help."""
        budget, tries = self._of(target), _TRIES[pending.lane]
        while True:
            began = self.clock.monotonic()
            tries -= 1
            try:
                return await work()
            except TurnUnused:
                budget.give_back()
                raise
            except EksThrottled:
                budget.throttle(began)
                if not tries:
                    raise
            except EksUnavailable:
                if not tries:
                    raise
            finally:
                budget.end(lane)
            await self.clock.sleep(_RETRY_S)
            lane = await budget.wait_for_turn(pending, until)

    def join(self, pending: PendingCall, target: Target, caller: Hashable) -> None:
        """Add a caller that waits for a call. The call may then be made at that caller's turn in READ.

        Raises Overloaded if that turn would not come in time.
        """
        self._of(target).join(pending, caller)

    async def close(self) -> None:
        """Fail every call that still waits with Draining."""
        for budget in self._targets.values():
            budget.close()

    def _of(self, target: Target) -> TargetBudget:
        budget = self._targets.get(target)
        if budget is None:
            tokens = self.tokens(target) if self.tokens else LocalTokens(target, self.calls_per_s, self.clock)
            budget = self._targets[target] = TargetBudget(tokens, self.threads, self.clock)
        return budget
