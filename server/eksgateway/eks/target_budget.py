"""The order of calls to one target: cancels first, then polls and other reads by turns.

Calls also wait here for a free thread: the thread pool serves in order of arrival, so one caller could fill
it while EKS is slow.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass
from enum import IntEnum, auto
from typing import Final

from eksgateway.clock import Clock
from eksgateway.eks.fair_queue import FairQueue, QueuedCall
from eksgateway.eks.tokens import Tokens, Waiting
from eksgateway.errors import DecisionStale, Draining, Overloaded

TURN_WAIT_S: Final = 10.0  # the longest wait for a turn, so that the reads of an RPC fit into its 30 s


class Lane(IntEnum):  # an Enum's hash is Python code: 4 µs for a cancel, which takes 54
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
    """A call, the callers that wait for it, and its entry in the queues. Several ``calls`` have one turn."""

    lane: Lane
    callers: list[Hashable]
    calls: int = 1
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
        self._timer_is_for = (False, 1)  # urgent, and the number of calls

    async def wait_for_turn(self, pending: PendingCall, until: float) -> Lane:
        """Take a token and a thread for each of the calls. Returns the lane to ``end`` each in."""
        lane, calls = pending.lane, pending.calls
        now, urgent = self._clock.monotonic(), lane in _URGENT
        ahead = any(self._queues[each] for each in _AHEAD[lane])
        now_free = not ahead and self._has_threads(lane, calls)
        if now_free and self._tokens.take(now, urgent=urgent, calls=calls):
            self._begin(lane, calls)
            return lane
        if lane not in _PATIENT:
            self._check_wait(lane, pending.callers, calls)
            until = now + TURN_WAIT_S
        pending.queued = call = QueuedCall(asyncio.get_running_loop().create_future(), until, calls)
        for caller in pending.callers:
            self._queues[lane].add(caller, call)
        timer_urgent, timer_calls = self._timer_is_for
        if self._timer is None or (urgent and not timer_urgent) or (urgent and calls < timer_calls):
            self._set_timer()  # this call may wait for fewer tokens
        try:
            in_time = await call.admitted
        except asyncio.CancelledError:
            if call.admitted.done() and not call.admitted.cancelled() and call.admitted.result():
                self._end_unused(pending)  # admitted in the moment of the cancellation
            raise
        finally:
            pending.queued = None
            for caller in pending.callers:
                self._queues[pending.lane].remove(caller, call)
        if not in_time:
            raise DecisionStale if lane is Lane.FORWARD else _overload_error(TURN_WAIT_S)
        return pending.lane

    def _begin(self, lane: Lane, calls: int) -> None:
        self._running[Lane.READ if lane is Lane.POLL else lane] += calls

    def end(self, lane: Lane) -> None:
        self._running[Lane.READ if lane is Lane.POLL else lane] -= 1
        if any(self._queues.values()):
            self._serve()

    def _end_unused(self, pending: PendingCall) -> None:
        for _ in range(pending.calls):
            self.give_back()
            self.end(pending.lane)

    def give_back(self) -> None:
        """Return the token of a turn at which EKS was not called. ``end`` follows."""
        self._tokens.give_back()

    def join(self, pending: PendingCall, caller: Hashable) -> None:
        if pending.lane is Lane.READ and caller in pending.callers:
            return
        call = pending.queued
        if call is not None:
            self._check_wait(Lane.READ, [caller], call.calls)
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

    def _check_wait(self, lane: Lane, callers: list[Hashable], calls: int) -> None:
        made = min(self._queues[lane].calls_until(caller, calls) for caller in callers)
        if lane is Lane.READ and self._queues[Lane.POLL]:
            made *= 2
        wait = made / self._tokens.rate
        if wait > TURN_WAIT_S:
            raise _overload_error(wait)

    def _serve(self) -> None:
        now = self._clock.monotonic()
        while (lane := self._next_lane(now)) is not None:
            calls = self._queues[lane].count_first()
            if not self._tokens.take(now, urgent=lane in _URGENT, calls=calls):
                break
            self._queues[lane].serve()
            self._begin(lane, calls)
            if lane not in _URGENT:
                self._last_was_poll = lane is Lane.POLL
        self._set_timer()

    def _next_lane(self, now: float) -> Lane | None:
        waiting = [
            lane
            for lane, queue in self._queues.items()
            if queue.has_waiting(now) and self._has_threads(lane, queue.count_first())
        ]
        if not self._last_was_poll and waiting == [Lane.READ, Lane.POLL]:
            return Lane.POLL
        return waiting[0] if waiting else None

    def _has_threads(self, lane: Lane, calls: int = 1) -> bool:
        """READ and POLL may use three quarters of the threads, and with CANCEL seven eighths.

        Several calls may begin with fewer threads if all that the lane may use are free.
        """
        running = self._running[Lane.READ]
        if lane in (Lane.READ, Lane.POLL) and running + calls > max(calls, self._threads * 6 // 8):
            return False
        running += self._running[Lane.CANCEL]
        if lane is not Lane.FORWARD and running + calls > max(calls, self._threads * 7 // 8):
            return False
        return running + self._running[Lane.FORWARD] + calls <= max(calls, self._threads)

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = self._clock.monotonic()
        lane = self._next_lane(now)
        if lane is not None:
            self._timer_is_for = urgent, calls = lane in _URGENT, self._queues[lane].count_first()
            self._timer = asyncio.create_task(self._refill_and_serve(urgent=urgent, calls=calls))

    async def _refill_and_serve(self, *, urgent: bool, calls: int) -> None:
        await self._tokens.refill(urgent=urgent, calls=calls, count=self._count_waiting)
        self._timer = None  # otherwise setting the next timer would cancel this task
        self._serve()

    def _count_waiting(self) -> Waiting:
        heads = {lane: self._queues[lane].count_heads() for lane in Lane if self._has_threads(lane)}
        return Waiting(
            urgent=heads.get(Lane.FORWARD, 0) + heads.get(Lane.CANCEL, 0),
            soon=len(self._queues[Lane.CANCEL]) if Lane.CANCEL in heads else 0,  # their CancelUpdate
            other=heads.get(Lane.READ, 0) + heads.get(Lane.POLL, 0),
        )


def _overload_error(retry_after: float) -> Overloaded:
    return Overloaded(
        "The budget of calls to EKS in this account and region is used up: try again later.",
        retry_after=retry_after,
    )
