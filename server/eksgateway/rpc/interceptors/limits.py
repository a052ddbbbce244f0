"""Bounds: metadata, time, and how much is held at once, altogether and by one caller.

Calls, watches and open streams are counted apart, so that watches cannot starve cancels, nor strangers
watches.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Hashable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

from eksgateway.errors import Draining, EksUnavailable, Overloaded, RequestTooLarge
from eksgateway.rpc.call import Call
from eksgateway.rpc.methods import Access, Place
from eksgateway.settings import LimitSettings


class Budget:
    """How many places of each kind each key holds; empty keys are forgotten."""

    def __init__(self, *, calls: int, watches: int, open_streams: int) -> None:
        self._most = {Place.CALL: calls, Place.WATCH: watches, Place.OPEN: open_streams}
        self._held: Counter[tuple[Hashable, Place]] = Counter()

    @contextmanager
    def hold(self, key: Hashable, call: Call) -> Iterator[None]:
        """Hold a place of the call's kind, which may change; raises Overloaded when all are held."""
        held = call.place

        def move(place: Place) -> None:
            nonlocal held
            self._take(key, place)
            self._give(key, held)
            held = place

        self._take(key, held)
        call.moves.append(move)
        try:
            yield
        finally:
            self._give(key, held)

    def _take(self, key: Hashable, place: Place) -> None:
        if self._held[key, place] >= self._most[place]:
            raise Overloaded
        self._held[key, place] += 1

    def _give(self, key: Hashable, place: Place) -> None:
        self._held[key, place] -= 1
        if not self._held[key, place]:
            del self._held[key, place]


# They end when their client likes, so a drain does not wait for them.
_ENDLESS = (Access.OPEN, Access.REFLECTION)


class Limits:
    """Before identity: the metadata's size, the drain flag, the budget of all, and a call's time limit."""

    def __init__(self, settings: LimitSettings) -> None:
        self._settings = settings
        self._budget = Budget(
            calls=settings.calls, watches=settings.watches, open_streams=settings.open_streams
        )
        self._draining = False
        self._inside = 0  # what a drain waits for
        self._left = asyncio.Event()

    def drain(self) -> None:
        """Turn new calls away from now on."""
        self._draining = True

    async def idle(self, timeout: float) -> None:  # noqa: ASYNC109  a return, not an error, ends the wait
        """Return once every call that was let in has ended, or after so many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while self._inside:
                    self._left.clear()
                    await self._left.wait()

    @asynccontextmanager
    async def around(self, call: Call, context: Any) -> AsyncIterator[None]:  # noqa: ARG002
        access = call.method.access if call.method else None
        if self._draining and access is not Access.OPEN:
            raise Draining
        if sum(len(key) + len(value) for key, value in call.metadata) > self._settings.metadata_bytes:
            raise RequestTooLarge(f"The metadata is over {self._settings.metadata_bytes} bytes.")
        # Health answers whatever others hold, and what strangers hold there takes no other call's place.
        key = "open" if access is Access.OPEN else "all"
        with self._inside_until_left(waited_for=access not in _ENDLESS), self._budget.hold(key, call):
            async with self._in_time(call):
                yield

    @contextmanager
    def _inside_until_left(self, *, waited_for: bool) -> Iterator[None]:
        self._inside += waited_for
        try:
            yield
        finally:
            self._inside -= waited_for
            self._left.set()

    @asynccontextmanager
    async def _in_time(self, call: Call) -> AsyncIterator[None]:
        limited = call.method is not None and call.place is Place.CALL and not call.method.own_deadline
        try:
            async with asyncio.timeout(self._settings.call_timeout_s if limited else None) as limit:
                yield
        except TimeoutError:
            if not limit.expired():
                raise
            raise EksUnavailable("EKS did not answer in the time a call has.") from None


class CallerLimits:
    """After identity: one caller's budget."""

    def __init__(self, settings: LimitSettings) -> None:
        self._budget = Budget(
            calls=settings.calls_per_caller,
            watches=settings.watches_per_caller,
            open_streams=settings.open_streams,
        )

    @asynccontextmanager
    async def around(self, call: Call, context: Any) -> AsyncIterator[None]:  # noqa: ARG002
        if call.identified is None:
            yield
            return
        with self._budget.hold(call.identified.id, call):
            yield
