"""Whose turn it is to call EKS: cancels first, then by turns those who wait for an answer and polls.

In each of these callers take turns, so that one who asks for much holds up nobody else. Every call of the
gateway to EKS passes here, each try of it for a token of its own. A call waits here for a free thread too:
the pool's own queue is in order of arrival, and while EKS is slow one caller could fill it.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from enum import Enum, auto
from typing import TypeVar

from eksgateway.clock import Clock
from eksgateway.eks.bucket import Bucket
from eksgateway.eks.line import Line, Place
from eksgateway.errors import DecisionStale, Draining, EksThrottled, EksUnavailable, Overloaded
from eksgateway.logs import Log
from eksgateway.model import Target

T = TypeVar("T")

log = Log(__name__)

PATIENCE_S = 10.0  # of whoever waits for an answer, so that the reads of a call fit into its 30 s
_PAUSE_S = 0.2  # before the second try of 5 s, so that they fit into it too


class Lane(Enum):
    """What a call is for."""

    FORWARD = auto()  # CancelUpdate: what was decided grows stale
    CANCEL = auto()  # what a cancel reads before it is decided
    ASK = auto()  # somebody waits for the answer: get, list, check, the start of a watch
    POLL = auto()  # it may take as long as it takes: what is known grows older meanwhile


_URGENT = frozenset({Lane.FORWARD, Lane.CANCEL})
_AHEAD = {Lane.FORWARD: {Lane.FORWARD}, Lane.CANCEL: _URGENT, Lane.ASK: set(Lane), Lane.POLL: set(Lane)}
_PATIENT = frozenset({Lane.FORWARD, Lane.POLL})  # the one until its decision is stale
_TRIES = {Lane.FORWARD: 1, Lane.CANCEL: 2, Lane.ASK: 2, Lane.POLL: 1}


@dataclass(slots=True)
class Waiting:
    """A call that waits for its turn: in which lane, for whom, and where, once it stands in line."""

    lane: Lane
    whos: list[Hashable]
    place: Place | None = None


class Budget:
    """``calls_per_s`` to each target, and ``threads`` calls at once. Belongs to one event loop."""

    def __init__(self, calls_per_s: float, clock: Clock, threads: int = 1000) -> None:
        self._calls_per_s = calls_per_s
        self._threads = threads
        self._clock = clock
        self._targets: dict[Target, _Turns] = {}

    async def call(
        self,
        lane: Lane,
        target: Target,
        who: Hashable,
        work: Callable[[], Awaitable[T]],
        until: float = math.inf,
    ) -> T:
        """Do work, which is one call to EKS, when it is its turn. A caller's read is tried twice.

        In a lane those ``who`` wait take turns. Raises Overloaded when the turn would not come, or did not
        come, in ``PATIENCE_S``; and in the lane FORWARD, DecisionStale when it did not come before ``until``
        (monotonic). A poll waits as long as it takes.
        """
        return await self.call_for(Waiting(lane, [who]), target, work, until)

    async def call_for(
        self, waiting: Waiting, target: Target, work: Callable[[], Awaitable[T]], until: float = math.inf
    ) -> T:
        """As ``call``, for all who wait, also those who ``join`` before it is their turn."""
        turns, tries = self._turns(target), _TRIES[waiting.lane]
        while True:
            lane = await turns.come(waiting, until)
            began = self._clock.monotonic()
            tries -= 1
            try:
                return await work()
            except EksThrottled:
                turns.throttled(began)
                if not tries:
                    raise
            except EksUnavailable:
                if not tries:
                    raise
            finally:
                turns.ended(lane)
            await self._clock.sleep(_PAUSE_S)

    def join(self, waiting: Waiting, target: Target, who: Hashable) -> None:
        """A caller waits for this call too: its turn comes as one of that caller's, if that is sooner.

        Raises Overloaded when that would not come in time.
        """
        self._turns(target).join(waiting, who)

    async def close(self) -> None:
        """Whoever still waits gets Draining."""
        for turns in self._targets.values():
            turns.close()

    def _turns(self, target: Target) -> _Turns:
        turns = self._targets.get(target)
        if turns is None:
            turns = self._targets[target] = _Turns(target, self._calls_per_s, self._threads, self._clock)
        return turns


class _Turns:
    """One target's bucket, threads and lines, and a timer for the next token while anybody waits."""

    def __init__(self, target: Target, calls_per_s: float, threads: int, clock: Clock) -> None:
        self._target = target
        self._clock = clock
        self._bucket = Bucket(calls_per_s, clock.monotonic())
        self._threads = threads
        self._calling: Counter[Lane] = Counter()  # calls under way; polls count as ASK, which they may become
        self._lines = {lane: Line() for lane in Lane}
        self._polled = False  # the last turn that was no cancel's was a poll's
        self._timer: asyncio.Task[None] | None = None

    async def come(self, waiting: Waiting, until: float) -> Lane:
        """Return when it is this call's turn, with its token taken, the lane to name when it ``ended``."""
        lane = waiting.lane
        now, urgent = self._clock.monotonic(), lane in _URGENT
        ahead = any(self._lines[each] for each in _AHEAD[lane])
        if not ahead and self._has_thread(lane) and self._bucket.take(now, urgent=urgent):
            self._begun(lane)
            return lane
        if lane not in _PATIENT:
            self._admit(lane, waiting.whos)
            until = now + PATIENCE_S
        waiting.place = place = Place(asyncio.get_running_loop().create_future(), until)
        for who in waiting.whos:
            self._lines[lane].add(who, place)
        if self._timer is None or urgent:  # an urgent one does not wait for as many tokens
            self._set_timer()
        try:
            come = await place.come
        except asyncio.CancelledError:
            if place.come.done() and not place.come.cancelled() and place.come.result():
                self.ended(waiting.lane)  # its turn came as the caller left
            raise
        finally:
            waiting.place = None
            for who in waiting.whos:
                self._lines[waiting.lane].leave(who, place)
        if not come:
            raise DecisionStale if lane is Lane.FORWARD else _used_up(PATIENCE_S)
        return waiting.lane

    def _begun(self, lane: Lane) -> None:
        self._calling[Lane.ASK if lane is Lane.POLL else lane] += 1

    def ended(self, lane: Lane) -> None:
        """A call that came in this lane has ended."""
        self._calling[Lane.ASK if lane is Lane.POLL else lane] -= 1
        if any(self._lines.values()):
            self._serve()

    def join(self, waiting: Waiting, who: Hashable) -> None:
        if waiting.lane is Lane.ASK and who in waiting.whos:
            return
        place = waiting.place
        if place is not None:
            self._admit(Lane.ASK, [who])
            self._lines[Lane.ASK].add(who, place)
        if waiting.lane is Lane.POLL:
            for poll in waiting.whos:
                if place is not None:
                    self._lines[Lane.POLL].leave(poll, place)
            waiting.lane, waiting.whos = Lane.ASK, []
        waiting.whos.append(who)

    def throttled(self, began: float) -> None:
        """EKS throttled a call that began then."""
        if self._bucket.throttled(self._clock.monotonic(), began):
            log.warning(
                "eks.throttled",
                account=self._target.account_id,
                region=self._target.region,
                calls_per_s=self._bucket.rate,
            )

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for line in self._lines.values():
            line.close(Draining)

    def _admit(self, lane: Lane, whos: list[Hashable]) -> None:
        """Raise Overloaded unless the turn of a call that comes now will come in time."""
        turns = min(self._lines[lane].turns_until(who) for who in whos)
        if lane is Lane.ASK and self._lines[Lane.POLL]:
            turns *= 2
        wait = turns / self._bucket.rate
        if wait > PATIENCE_S:
            raise _used_up(wait)

    def _serve(self) -> None:
        now = self._clock.monotonic()
        while (lane := self._first(now)) is not None and self._bucket.take(now, urgent=lane in _URGENT):
            self._lines[lane].serve()
            self._begun(lane)
            if lane not in _URGENT:
                self._polled = lane is Lane.POLL
        self._set_timer()

    def _first(self, now: float) -> Lane | None:
        """The lane whose turn it is, of those where calls wait for no thread. Late calls end in all lanes."""
        waiting = [lane for lane in Lane if self._lines[lane].waits(now) and self._has_thread(lane)]
        if not self._polled and waiting == [Lane.ASK, Lane.POLL]:
            return Lane.POLL
        return waiting[0] if waiting else None

    def _has_thread(self, lane: Lane) -> bool:
        """Reads for no cancel use three quarters of the threads, and all reads seven eighths of them."""
        calls = self._calling[Lane.ASK]
        if lane in (Lane.ASK, Lane.POLL) and calls >= max(1, self._threads * 6 // 8):
            return False
        calls += self._calling[Lane.CANCEL]
        if lane is not Lane.FORWARD and calls >= max(1, self._threads * 7 // 8):
            return False
        return calls + self._calling[Lane.FORWARD] < self._threads

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = self._clock.monotonic()
        lane = self._first(now)
        if lane is not None:
            left = self._bucket.wait(now, urgent=lane in _URGENT)
            self._timer = asyncio.create_task(self._serve_in(left))

    async def _serve_in(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self._timer = None  # or setting the next one would cancel this task
        self._serve()


def _used_up(retry_after: float) -> Overloaded:
    return Overloaded(
        "The calls to EKS in this account and region are used up: try again later.", retry_after=retry_after
    )
