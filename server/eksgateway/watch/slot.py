"""The latest state of one watch: a new state replaces an unread one, so a slow watcher needs no queue."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Self

from eksgateway.clock import Clock
from eksgateway.errors import GatewayError, copy_error
from eksgateway.ledger import codec
from eksgateway.model import Phase, Update


@dataclass(frozen=True)  # no slots: the digest is cached for all watchers of this state
class WatchState:
    """``reason`` explains OUTCOME_UNKNOWN."""

    update: Update
    phase: Phase | None
    observe_time: datetime
    reason: str = ""

    @property
    def final(self) -> bool:
        return self.update.final

    @cached_property
    def digest(self) -> bytes:
        """16 bytes, equal in every process for equal content."""
        content = codec.encode(self.content if self.reason else self.content[:2])
        return hashlib.sha256(content.encode()).digest()[:16]

    @property
    def content(self) -> tuple[Update, Phase | None, str]:
        return self.update, self.phase, self.reason

    def same_as(self, other: WatchState | None) -> bool:
        """Whether only the times differ, which is no change."""
        return other is not None and self.content == other.content


class Slot:
    """Written by a poller, which never waits for it; read by one task, as a context.

    empty ──put──► unread ──next──► empty           a later state replaces an unread one,
      │              │                              but never a final one by one that is not
      └────close─────┴──► closed                    ``next`` returns an unread state first, then raises
           revoke                                   ``revoke`` drops the unread state

    A state equal to the last one read is not returned again; it drops an unread state between them.
    """

    __slots__ = ("_clock", "_error", "_future", "_last_read", "_on_exit", "_unread", "last_seen")

    def __init__(self, clock: Clock, on_exit: Callable[[Slot], None] = lambda _: None) -> None:
        self._clock = clock
        self._on_exit = on_exit
        self._future: asyncio.Future[None] | None = None  # while ``next`` waits
        self._unread: WatchState | None = None
        self._last_read: WatchState | None = None
        self._error: GatewayError | None = None
        self.last_seen: datetime | None = None  # when EKS last reported any state

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._on_exit(self)

    def put(self, state: WatchState) -> None:
        latest = self._unread or self._last_read
        if self._error or (latest is not None and latest.final and not state.final):
            return
        self.last_seen = state.observe_time
        self._unread = None if state.same_as(self._last_read) else state
        if self._unread is not None:
            self._wake()

    def close(self, error: GatewayError) -> None:
        """End with an error, after the unread state. The first error stays."""
        self._error = self._error or error
        self._wake()

    def revoke(self, error: GatewayError) -> None:
        """Drop the unread state too, because the right to see it is lost."""
        self.close(error)
        self._unread = None

    async def next(self, timeout: float) -> WatchState | None:  # noqa: ASYNC109 - on the injected clock
        """Return the next state that differs from the last one; None after ``timeout`` seconds.

        Raises the error that ended the watch: an EksError, Draining or Internal; Denied, CredentialsExpired
        and the like when it was revoked.
        """
        due = self._clock.monotonic() + timeout
        while self._unread is None:
            if self._error is not None:
                raise copy_error(self._error)  # one error ends many watches
            left = due - self._clock.monotonic()
            if left <= 0:
                return None
            # A future instead of a task: thousands of watchers wait at once.
            self._future = asyncio.get_running_loop().create_future()
            timer = self._clock.call_later(left, self._wake)
            try:
                await self._future
            finally:
                self._future = None
                timer.cancel()
        self._last_read, self._unread = self._unread, None
        return self._last_read

    def _wake(self) -> None:
        if self._future is not None and not self._future.done():
            self._future.set_result(None)
