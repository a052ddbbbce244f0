"""A latest-value slot for one reader: what comes in replaces what was not read, never a queue."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from copy import copy
from datetime import datetime
from typing import Protocol, Self

from eksgateway.clock import Clock
from eksgateway.errors import GatewayError
from eksgateway.watch.state import WatchState


class Watcher(Protocol):
    """The reading side of a slot."""

    @property
    def last_seen(self) -> datetime | None:
        """When EKS was last seen, also when it said nothing new; None before the first state."""

    async def next(self, timeout: float) -> WatchState | None:  # noqa: ASYNC109 - on the injected clock
        """The next state that differs from the last one given, at first the current one.

        None after ``timeout`` seconds without one. Raises what ended the watch: an EksError, Draining
        or Internal, after the last state was given; or what took away the right to watch.
        """


class Slot:
    """Written by a poller, which never waits for it; read by one task, until it leaves it as a context.

    empty ──put──► unread ──next──► empty           an unread state is replaced by a later one,
      │              │                              but a final one never by one that is not
      └────close─────┴──► closed                    ``next`` gives an unread state first, then raises
           revoke                                   ``revoke`` takes that one away

    A state equal to the one given last is not given again, and a later one that brings the
    reader back to where it is takes an unread one away: the reader missed nothing that lasts.
    """

    __slots__ = ("_clock", "_closed", "_given", "_left", "_unread", "_waiting", "last_seen")

    def __init__(self, clock: Clock, left: Callable[[Slot], None] = lambda _: None) -> None:
        self._clock = clock
        self._left = left
        self._waiting: asyncio.Future[None] | None = None
        self._unread: WatchState | None = None
        self._given: WatchState | None = None
        self._closed: GatewayError | None = None
        self.last_seen: datetime | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._left(self)

    def put(self, state: WatchState) -> None:
        """Make this the state to read, and the time EKS was last seen."""
        latest = self._unread or self._given
        if self._closed or (latest is not None and latest.final and not state.final):
            return
        self.last_seen = state.observe_time
        self._unread = None if state.same_as(self._given) else state
        if self._unread is not None:
            self._wake()

    def close(self, error: GatewayError) -> None:
        """End with an error, after the state not read yet. The first error stays."""
        self._closed = self._closed or error
        self._wake()

    def revoke(self, error: GatewayError) -> None:
        """End with an error, before the state not read yet: its reader may not know it any more."""
        self.close(error)
        self._unread = None

    async def next(self, timeout: float) -> WatchState | None:  # noqa: ASYNC109 - on the injected clock
        """See ``Watcher``; for one reader at a time."""
        due = self._clock.monotonic() + timeout
        while self._unread is None:
            if self._closed is not None:
                raise copy(self._closed)  # one error ends many watchers; each has its own traceback
            left = due - self._clock.monotonic()
            if left <= 0:
                return None
            # No task and no coroutine of its own: thousands wait at once.
            self._waiting = asyncio.get_running_loop().create_future()
            timer = self._clock.call_later(left, self._wake)
            try:
                await self._waiting
            finally:
                self._waiting = None
                timer.cancel()
        self._given, self._unread = self._unread, None
        return self._given

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)
