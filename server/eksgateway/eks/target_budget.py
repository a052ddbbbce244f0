"""The order of calls to one target: cancels first, then polls and other reads by turns.

Calls also wait here for a free thread: the thread pool serves in order of arrival, so one caller could fill
it while EKS is slow.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from eksgateway.clock import Clock
from eksgateway.eks.fair_queue import FairQueue, QueuedCall
from eksgateway.eks.token_bucket import CALLS_OF_A_CANCEL
from eksgateway.eks.tokens import Tokens, Waiting
from eksgateway.errors import DecisionStale, Draining, Overloaded

TURN_WAIT_S: Final = 10.0  # the longest wait for a turn, so that the reads of an RPC fit into its 30 s


class Lane(Enum):
    FORWARD = auto()  # CancelUpdate, whose decision grows stale
    CANCEL = auto()  # reads of a cancel
    READ = auto()  # other reads that a caller waits for
    POLL = auto()  # reads of a poller


_URGENT: Final = frozenset({Lane.FORWARD, Lane.CANCEL})
_AHEAD: Final = {
    Lane.FORWARD: {Lane.FORWARD},
    Lane.CANCEL: _URGENT,
    Lane.READ: set(Lane),
    Lane.POLL: set(Lane),
}
_PATIENT: Final = frozenset({Lane.FORWARD, Lane.POLL})  # a forward waits until its decision is stale


@dataclass(slots=True)
class PendingCall:
    """A call, the callers that wait for it, and its entry in the queues."""

    lane: Lane
    callers: list[Hashable]
    queued: QueuedCall | None = None


class TargetBudget:
    """The threads and queues of one target."""

    def __init__(self, tokens: Tokens, threads: int, clock: Clock) -> None:
        self._clock = clock
        self._tokens = tokens
        self._threads = threads
        self._running: Counter[Lane] = Counter()  # polls count as READ, which they may become
        self._queues = {lane: FairQueue() for lane in Lane}
        self._last_was_poll = False  # of the turns that were not urgent
        self._timer: asyncio.Task[None] | None = None
        self._timer_is_urgent = False

    async def wait_for_turn(self, pending: PendingCall, until: float) -> Lane:
        """Take a token and a thread. Returns the lane to ``end`` the call in."""
        lane = pending.lane
        now, urgent = self._clock.monotonic(), lane in _URGENT
        ahead = any(self._queues[each] for each in _AHEAD[lane])
        if not ahead and self._has_thread(lane) and self._tokens.take(now, urgent=urgent):
            self._begin(lane)
            return lane
        if lane not in _PATIENT:
            self._check_wait(lane, pending.callers)
            until = now + TURN_WAIT_S
        pending.queued = call = QueuedCall(asyncio.get_running_loop().create_future(), until)
        for caller in pending.callers:
            self._queues[lane].add(caller, call)
        if self._timer is None or (urgent and not self._timer_is_urgent):
            self._set_timer()  # an urgent call waits for fewer tokens than another one
        try:
            in_time = await call.admitted
        except asyncio.CancelledError:
            if call.admitted.done() and not call.admitted.cancelled() and call.admitted.result():
                self.end(pending.lane)  # admitted in the moment of the cancellation
            raise
        finally:
            pending.queued = None
            for caller in pending.callers:
                self._queues[pending.lane].remove(caller, call)
        if not in_time:
            raise DecisionStale if lane is Lane.FORWARD else _overload_error(TURN_WAIT_S)
        return pending.lane

    def _begin(self, lane: Lane) -> None:
        self._running[Lane.READ if lane is Lane.POLL else lane] += 1

    def end(self, lane: Lane) -> None:
        self._running[Lane.READ if lane is Lane.POLL else lane] -= 1
        if any(self._queues.values()):
            self._serve()

    def give_back(self) -> None:
        """Return the token of a turn at which EKS was not called. ``end`` follows."""
        self._tokens.give_back()

    def join(self, pending: PendingCall, caller: Hashable) -> None:
        if pending.lane is Lane.READ and caller in pending.callers:
            return
        call = pending.queued
        if call is not None:
            self._check_wait(Lane.READ, [caller])
            self._queues[Lane.READ].add(caller, call)
        if pending.lane is Lane.POLL:
            for poller in pending.callers:
                if call is not None:
                    self._queues[Lane.POLL].remove(poller, call)
            pending.lane, pending.callers = Lane.READ, []
        pending.callers.append(caller)

    def throttle(self, began: float) -> None:
        """Lower the rate, as EKS throttled a call that began then."""
        self._tokens.throttle(self._clock.monotonic(), began)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for queue in self._queues.values():
            queue.close(Draining)

    def _check_wait(self, lane: Lane, callers: list[Hashable]) -> None:
        turns = min(self._queues[lane].turns_until(caller) for caller in callers)
        if lane is Lane.READ and self._queues[Lane.POLL]:
            turns *= 2
        wait = turns / self._tokens.rate
        if wait > TURN_WAIT_S:
            raise _overload_error(wait)

    def _serve(self) -> None:
        now = self._clock.monotonic()
        while (lane := self._next_lane(now)) is not None and self._tokens.take(now, urgent=lane in _URGENT):
            self._queues[lane].serve()
            self._begin(lane)
            if lane not in _URGENT:
                self._last_was_poll = lane is Lane.POLL
        self._set_timer()

    def _next_lane(self, now: float) -> Lane | None:
        waiting = [lane for lane in Lane if self._queues[lane].has_waiting(now) and self._has_thread(lane)]
        if not self._last_was_poll and waiting == [Lane.READ, Lane.POLL]:
            return Lane.POLL
        return waiting[0] if waiting else None

    def _has_thread(self, lane: Lane) -> bool:
        """READ and POLL may use three quarters of the threads, and with CANCEL seven eighths."""
        calls = self._running[Lane.READ]
        if lane in (Lane.READ, Lane.POLL) and calls >= max(1, self._threads * 6 // 8):
            return False
        calls += self._running[Lane.CANCEL]
        if lane is not Lane.FORWARD and calls >= max(1, self._threads * 7 // 8):
            return False
        return calls + self._running[Lane.FORWARD] < self._threads

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = self._clock.monotonic()
        lane = self._next_lane(now)
        if lane is not None:
            self._timer_is_urgent = lane in _URGENT
            self._timer = asyncio.create_task(self._refill_and_serve(urgent=self._timer_is_urgent))

    async def _refill_and_serve(self, *, urgent: bool) -> None:
        await self._tokens.refill(urgent=urgent, count=self._count_waiting)
        self._timer = None  # otherwise setting the next timer would cancel this task
        self._serve()

    def _count_waiting(self) -> Waiting:
        heads = {lane: len(self._queues[lane]) for lane in Lane if self._has_thread(lane)}
        cancels = heads.get(Lane.CANCEL, 0)
        return Waiting(
            urgent=heads.get(Lane.FORWARD, 0) + cancels,
            soon=cancels * (CALLS_OF_A_CANCEL - 1),
            other=heads.get(Lane.READ, 0) + heads.get(Lane.POLL, 0),
        )


def _overload_error(retry_after: float) -> Overloaded:
    return Overloaded(
        "The budget of calls to EKS in this account and region is used up: try again later.",
        retry_after=retry_after,
    )
