"""Fair admission, after Kubernetes' API Priority and Fairness: calls queue by flow, and get seats in turns.

A call holds a seat while it is worked on. There are few seats, because more calls at once would only wait
together for the processor. While the processor idles, because calls wait for EKS, for a disk or for an OPA
server, more calls are served than there are seats. While it is busy and no seat becomes free, the flows that
hold less than their part still get seats. Knows neither grpc nor credentials.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from itertools import islice
from typing import NoReturn, Protocol

from eksgateway.errors import Overloaded
from eksgateway.rpc.queues import Band, Flow, Queues, Seat

SEATS = 4
PATIENCE_S = 10.0  # a call that would wait longer fails with OVERLOADED
_SEATS_OF_A_CALLER = 2
_PASSING = 16  # calls in service up to which a caller that has none there does not wait
_TICK_S = 0.005  # between two looks at the processor while calls wait
_REFUSALS_PER_S, _REFUSALS_AT_ONCE, _REFUSED_LATEST_S = 50, 10, 2.0  # of one key


class Processor(Protocol):
    """How busy this process is."""

    def idles(self) -> bool:
        """Whether there was time for one more call since this was asked last."""


class Admission:
    """Belongs to one event loop. ``most`` bounds how many calls wait, of all flows together, and ``patience``
    how many seconds each waits. ``refused`` is called with the flow of each call that gets no seat.
    """

    def __init__(
        self,
        most: int,
        processor: Processor,
        refused: Callable[[Flow], None],
        *,
        patience: float = PATIENCE_S,
    ) -> None:
        self._most = most
        self._processor = processor
        self._refused = refused
        self._patience = patience
        self._queues = Queues()
        self._held: Counter[str] = Counter()  # calls that wait or are served, by key
        self._served: Counter[str] = Counter()  # calls that are served, by key
        self._serving = 0
        self._moved = False  # whether a call got a seat that was free since the last look at the processor
        # Connections whose last call proved nothing: each tick one of them may be served again.
        self._unproved: dict[str, None] = {}
        self._paced: dict[str, float] = {}  # when the next call of a key is refused at once, oldest first
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """How many calls wait."""
        return len(self._queues)

    @property
    def serving(self) -> int:
        """How many calls hold a seat."""
        return self._serving

    async def enter(self, flow: Flow, share: int) -> Seat:
        """Wait for a seat. Raises Overloaded, without waiting when ``share`` calls of the same key wait or
        are served already.
        """
        seat = Seat(flow)
        if self._held.get(flow.key, 0) >= share:
            await self._refuse(flow)
        if self._starts_at_once(flow):
            self._held[flow.key] += 1
            self._serve(seat)
            return seat
        if len(self._queues) >= self._most and not self._make_room(flow):
            await self._refuse(flow)
        self._held[flow.key] += 1
        await self._wait(seat)
        return seat

    def leave(self, seat: Seat) -> None:
        """Give the seat of a call back that is served no more."""
        self._serving -= 1
        _count_down(self._served, seat.flow.key)
        _count_down(self._held, seat.flow.key)
        if seat.flow.band is Band.STRANGER:
            self._unproved[seat.flow.key] = None
            self._set_timer()
        self._fill()

    def move(self, seat: Seat, flow: Flow) -> None:
        """Count a call that is served as one of another flow."""
        for counts in (self._served, self._held):
            _count_down(counts, seat.flow.key)
            counts[flow.key] += 1
        seat.flow = flow
        self._fill()

    async def _wait(self, seat: Seat) -> None:
        loop = asyncio.get_running_loop()
        seat.turn = loop.create_future()
        seat.timer = loop.call_later(self._patience, self._send_away, seat)
        self._queues.add(seat)
        self._set_timer()
        try:
            await seat.turn
        except asyncio.CancelledError:
            if seat.served:  # its turn came as its client left
                self.leave(seat)
            elif seat.served is None:
                self._send_away(seat)
            raise
        if not seat.served:
            await self._refuse(seat.flow)

    def _starts_at_once(self, flow: Flow) -> bool:
        if flow in self._queues:
            return False
        if not flow.band.of_connections and not self._served.get(flow.key):
            return self._serving < _PASSING
        # Other calls that wait while there are seats are of flows that hold as many as they may.
        return self._serving < SEATS and self._admits(flow)

    def _admits(self, flow: Flow) -> bool:
        if flow.band is Band.STRANGER and flow.key in self._unproved:
            return False
        most = 1 if flow.band.of_connections else _SEATS_OF_A_CALLER
        return self._served.get(flow.key, 0) < most

    def _fill(self) -> None:
        while self._serving < SEATS and (seat := self._queues.take(self._admits)) is not None:
            self._moved = True
            self._serve(seat)

    def _tick(self) -> None:
        self._timer = None
        moved, self._moved = self._moved, False
        if self._processor.idles():
            self._serve_next(lambda _: True)
        elif not moved:  # all seats are held by calls that wait, for a message or for EKS
            self._serve_next(self._admits)
        self._forgive_one()
        self._fill()
        if self._queues or self._unproved:
            self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_TICK_S, self._tick)

    def _forgive_one(self) -> None:
        """Let one connection with calls that wait prove itself again, and forget those without."""
        while self._unproved:
            key = next(iter(self._unproved))
            del self._unproved[key]
            if Flow(key, Band.STRANGER) in self._queues:
                return

    def _serve_next(self, admits: Callable[[Flow], bool]) -> None:
        if (seat := self._queues.take(admits)) is not None:
            self._serve(seat)

    def _serve(self, seat: Seat) -> None:
        """Let a call begin that waits in no queue any more."""
        self._serving += 1
        self._served[seat.flow.key] += 1
        self._decide(seat, served=True)

    def _make_room(self, flow: Flow) -> bool:
        """Send away the newest call of the longest queue, unless the queue of this flow is as long."""
        longest = self._queues.last_of_longest()
        if self._queues.length(longest.flow) <= self._queues.length(flow) + 1:
            return False
        self._send_away(longest)
        return True

    def _send_away(self, seat: Seat) -> None:
        self._queues.remove(seat)
        _count_down(self._held, seat.flow.key)
        self._decide(seat, served=False)

    def _decide(self, seat: Seat, *, served: bool) -> None:
        seat.served = served
        if seat.timer is not None:
            seat.timer.cancel()
        if seat.turn is not None and not seat.turn.done():  # its client may be leaving
            seat.turn.set_result(None)

    async def _refuse(self, flow: Flow) -> NoReturn:
        """Raise Overloaded, at once unless calls of the same key are refused faster than ``_REFUSALS_PER_S``:
        a flood sends another call as soon as one is refused, and each takes time of the event loop.
        """
        self._refused(flow)
        now = asyncio.get_running_loop().time()
        due = max(now, self._paced.pop(flow.key, 0.0))
        self._paced[flow.key] = min(due + 1 / _REFUSALS_PER_S, now + _REFUSED_LATEST_S)
        for key, free in list(islice(self._paced.items(), 2)):  # two leave for each that comes
            if free <= now:
                del self._paced[key]
        if due - now > _REFUSALS_AT_ONCE / _REFUSALS_PER_S:
            await asyncio.sleep(due - now)
        raise Overloaded


def _count_down(counts: Counter[str], key: str) -> None:
    """One less; keys without any are forgotten, or strangers' connections would fill the memory."""
    counts[key] -= 1
    if not counts[key]:
        del counts[key]
