"""The tokens of one target: the interface of the budget, and the tokens of a gateway without replicas."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from eksgateway.clock import Clock
from eksgateway.eks.token_bucket import TokenBucket
from eksgateway.logs import Log
from eksgateway.model import Target

log = Log(__name__)


class Waiting(NamedTuple):
    """The numbers of calls that wait at the heads of lines, and of urgent calls that will follow soon."""

    urgent: int
    soon: int
    other: int


class Tokens(Protocol):
    """One token per call. ``now`` and ``began`` are monotonic."""

    @property
    def rate(self) -> float:
        """Calls per second, as far as is known."""

    def take(self, now: float, *, urgent: bool, calls: int = 1) -> bool:
        """Take the tokens of so many calls if all are there. One for urgent calls only is left to them."""

    def give_back(self) -> None:
        """Return the token of a call that was not made."""

    async def refill(self, *, urgent: bool, calls: int, count: Callable[[], Waiting]) -> None:
        """Return when it is worth while to ``take`` again for calls that wait. Never fails.

        May be cancelled, and then loses no token.
        """

    def throttle(self, now: float, began: float) -> object:
        """Halve the rate because EKS throttled a call that began then. Logs it."""


class LocalTokens(TokenBucket):
    """Implements ``Tokens`` for a gateway without other replicas."""

    def __init__(self, target: Target, rate: float, clock: Clock) -> None:
        super().__init__(rate, clock.monotonic())
        self._target = target
        self._clock = clock

    async def refill(self, *, urgent: bool, calls: int, count: Callable[[], Waiting]) -> None:  # noqa: ARG002
        await self._clock.sleep(self.wait(self._clock.monotonic(), urgent=urgent, calls=calls))

    def throttle(self, now: float, began: float) -> bool:
        halved = super().throttle(now, began)
        if halved:
            log_throttled(self._target, self.rate)
        return halved


def log_throttled(target: Target, rate: float) -> None:
    log.warning("eks.throttled", account=target.account_id, region=target.region, calls_per_s=rate)
