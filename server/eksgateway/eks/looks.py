"""The interface by which replicas share reads of EKS. A look is a read whose result others may use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, Protocol, TypeVar

from eksgateway.clock import Clock
from eksgateway.errors import GatewayError

K = TypeVar("K")
V = TypeVar("V")
_K_contra = TypeVar("_K_contra", contravariant=True)


@dataclass(frozen=True, slots=True)
class Look(Generic[V]):
    """The result of a read that began at ``time`` (UTC), which is ``began`` on the monotonic clock.

    ``began`` may be earlier than the truth, and is never later. ``changed`` is when the look began that first
    had this value (monotonic), as every replica knows it; None for a look that no other replica knows.
    ``mine`` is false for another replica's look.
    """

    value: V
    time: datetime
    began: float
    changed: float | None = None
    mine: bool = True


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to make one read, which begins at ``time`` and ``began``, as in ``Look``.

    With ``shared``, no other replica reads the same meanwhile.
    """

    time: datetime
    began: float
    shared: bool


class Looks(Protocol[_K_contra, V]):
    """The looks of all replicas at one kind of resource. No method fails when the others cannot be reached:
    then this replica reads for itself.
    """

    @property
    def shared(self) -> bool:
        """Whether there may be other replicas."""

    async def find(self, key: _K_contra, oldest: float) -> Look[V] | None:
        """The newest look, if it began after ``oldest`` (monotonic). Waits while another replica looks.

        Raises the EksRefused that EKS answered to the newest look.
        """

    async def claim(self, key: _K_contra, oldest: float) -> Claim | None:
        """None if another replica looks, or if a look began after ``oldest``; ``find`` waits for it."""

    async def report(self, key: _K_contra, claim: Claim, value: V) -> Look[V] | None:
        """Share the result. None if it is void, because a newer one is known or the key was forgotten."""

    async def fail(self, key: _K_contra, claim: Claim, error: GatewayError) -> None:
        """Share EKS's refusal. After any other error another replica may look."""

    def forget(self, key: _K_contra) -> None:
        """Make every look void that began before now, also those under way."""

    def subscribe(self, hear: Callable[[Any], None]) -> None:
        """Call ``hear`` with the key after another result or ``forget``, of any replica, and with None when
        such a notice may have been missed.
        """


class LocalLooks(Generic[K, V]):
    """Implements ``Looks`` for a gateway without other replicas: there is nothing to find, and every claim is
    granted.
    """

    shared = False

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def find(self, key: K, oldest: float) -> Look[V] | None:  # noqa: ARG002
        return None

    async def claim(self, key: K, oldest: float) -> Claim | None:  # noqa: ARG002
        return Claim(self._clock.now(), self._clock.monotonic(), shared=False)

    async def report(self, key: K, claim: Claim, value: V) -> Look[V] | None:  # noqa: ARG002
        return Look(value, claim.time, claim.began)

    async def fail(self, key: K, claim: Claim, error: GatewayError) -> None:
        pass

    def forget(self, key: K) -> None:
        pass

    def subscribe(self, hear: Callable[[Any], None]) -> None:
        pass
