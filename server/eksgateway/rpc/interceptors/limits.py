"""Bounds: metadata, time, and how much is held at once, altogether and by one caller.

Watches and calls are counted apart, so that watches cannot starve cancels.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Hashable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

from eksgateway.errors import Draining, EksUnavailable, Overloaded, RequestTooLarge
from eksgateway.rpc.call import Call
from eksgateway.rpc.methods import Access
from eksgateway.settings import LimitSettings


class Budget:
    """How many calls and watches each key holds; empty keys are forgotten."""

    def __init__(self, *, calls: int, watches: int) -> None:
        self._most = {False: calls, True: watches}
        self._held: Counter[tuple[Hashable, bool]] = Counter()

    @asynccontextmanager
    async def hold(self, key: Hashable, *, watch: bool) -> AsyncIterator[None]:
        """Hold one; raises Overloaded when all are held."""
        slot = (key, watch)
        if self._held[slot] >= self._most[watch]:
            raise Overloaded
        self._held[slot] += 1
        try:
            yield
        finally:
            self._held[slot] -= 1
            if not self._held[slot]:
                del self._held[slot]


class Limits:
    """Before identity: the metadata's size, the drain flag, the budget of all, and a call's time limit."""

    def __init__(self, settings: LimitSettings) -> None:
        self._settings = settings
        self._budget = Budget(calls=settings.calls, watches=settings.watches)
        self._draining = False
        self._inside = 0  # health aside, whose watches never end by themselves
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
        if call.method is not None and call.method.access is Access.OPEN:
            async with self._bounded(call):
                yield
            return
        if self._draining:
            raise Draining
        with self._counted():
            async with self._bounded(call):
                yield

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1
            self._left.set()

    @asynccontextmanager
    async def _bounded(self, call: Call) -> AsyncIterator[None]:
        method = call.method
        if sum(len(key) + len(value) for key, value in call.metadata) > self._settings.metadata_bytes:
            raise RequestTooLarge(f"The metadata is over {self._settings.metadata_bytes} bytes.")
        watch = method is not None and method.watch
        limited = method is not None and not method.watch and not method.own_deadline
        timeout = self._settings.call_timeout_s if limited else None
        async with self._budget.hold("all", watch=watch):
            try:
                async with asyncio.timeout(timeout) as limit:
                    yield
            except TimeoutError:
                if not limit.expired():
                    raise
                raise EksUnavailable("EKS did not answer in the time a call has.") from None


class CallerLimits:
    """After identity: one caller's budget."""

    def __init__(self, settings: LimitSettings) -> None:
        self._budget = Budget(calls=settings.calls_per_caller, watches=settings.watches_per_caller)

    @asynccontextmanager
    async def around(self, call: Call, context: Any) -> AsyncIterator[None]:  # noqa: ARG002
        if call.identified is None:
            yield
            return
        watch = call.method is not None and call.method.watch
        async with self._budget.hold(call.identified.id, watch=watch):
            yield
