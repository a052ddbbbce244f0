"""Bounds: metadata, and how much is held at once, altogether and by one caller.

Calls, watches and open streams are counted apart, so that watches cannot starve cancels, nor strangers
watches.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Hashable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from eksgateway.errors import Draining, Overloaded, RequestTooLarge
from eksgateway.identity.invalid_credentials import invalid_credentials
from eksgateway.rpc.call import Call, Metadata
from eksgateway.rpc.interceptors.interceptor import Interceptor
from eksgateway.rpc.interceptors.open_places import OpenPlaces
from eksgateway.rpc.methods import Access, Place
from eksgateway.settings import LimitSettings


class Budget:
    """How many places of each kind each key holds; empty keys are forgotten."""

    def __init__(self, *, calls: int, watches: int, open_streams: int) -> None:
        self._most = {Place.CALL: calls, Place.WATCH: watches, Place.OPEN: open_streams}
        self._held: Counter[tuple[Hashable, Place]] = Counter()

    def hold(self, key: Hashable, call: Call) -> None:
        """Hold a place of the call's kind; raises Overloaded when all are held."""
        self.take(key, call.place)
        call.holds.append(Hold(self, key, call.place))

    def take(self, key: Hashable, place: Place) -> None:
        """One place more; raises Overloaded."""
        if self._held[key, place] >= self._most[place]:
            raise Overloaded
        self._held[key, place] += 1

    def give(self, key: Hashable, place: Place) -> None:
        """One place back."""
        self._held[key, place] -= 1
        if not self._held[key, place]:
            del self._held[key, place]


@dataclass(slots=True)
class Hold:
    """One call's place in a budget."""

    budget: Budget
    key: Hashable
    place: Place

    def move(self, place: Place) -> None:
        """Hold a place of another kind instead; raises Overloaded, and nothing has changed then."""
        self.budget.take(self.key, place)
        self.give()
        self.place = place

    def give(self) -> None:
        self.budget.give(self.key, self.place)


# They end when their client likes, so a drain does not wait for them.
_ENDLESS = (Access.OPEN, Access.REFLECTION)


class Limits(Interceptor):
    """Before identity: the metadata's size, the drain flag, and the budget of all."""

    def __init__(self, settings: LimitSettings) -> None:
        self._settings = settings
        self._budget = Budget(
            calls=settings.calls, watches=settings.watches, open_streams=settings.open_streams
        )
        self._open = OpenPlaces(of_one=settings.open_streams_per_connection, altogether=settings.open_streams)
        self._checks = OpenPlaces(of_one=settings.calls_per_caller, altogether=settings.calls)
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

    async def admit(self, call: Call, context: Any) -> None:  # noqa: ARG002
        access = call.method.access if call.method else None
        if self._draining and access is not Access.OPEN:
            raise Draining
        self._check_sizes(call.metadata)
        # Health answers whatever others hold, and what strangers hold there takes no other call's place.
        if call.place is Place.OPEN:
            self._open.hold(call)
        elif access is Access.OPEN:
            self._checks.hold(call)
        else:
            self._budget.hold("all", call)
        self._inside += access not in _ENDLESS

    def _check_sizes(self, metadata: Metadata) -> None:
        """Too large credentials are invalid ones: an error of size is one that clients repeat."""
        sizes = Counter[bool]()
        for key, value in metadata:
            sizes[key == "authorization"] += len(key) + len(value)
        if sizes[True] > self._settings.credentials_bytes:
            raise invalid_credentials(
                "size", f"The credentials are over {self._settings.credentials_bytes} bytes."
            )
        if sizes[False] > self._settings.metadata_bytes:
            raise RequestTooLarge(f"The metadata is over {self._settings.metadata_bytes} bytes.")

    def leave(self, call: Call) -> None:
        call.holds.pop().give()
        self._inside -= call.method is None or call.method.access not in _ENDLESS
        self._left.set()


class CallerLimits(Interceptor):
    """After identity: one caller's budget."""

    def __init__(self, settings: LimitSettings) -> None:
        self._budget = Budget(
            calls=settings.calls_per_caller,
            watches=settings.watches_per_caller,
            open_streams=settings.open_streams,
        )

    async def admit(self, call: Call, context: Any) -> None:  # noqa: ARG002
        if call.identified is not None:
            self._budget.hold(call.identified.id, call)

    def leave(self, call: Call) -> None:
        if call.identified is not None:
            call.holds.pop().give()
