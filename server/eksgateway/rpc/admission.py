"""Fair admission, after Kubernetes' API Priority and Fairness: calls queue by flow and get seats in turns.

There are few seats: more calls at once would only wait for the processor together. While the process uses
little of it, because calls wait for EKS, a disk or an OPA server, more calls are served than there are seats.
While it is busy and no seat becomes free, flows that hold less than their share still get seats.

A caller whose calls are the only ones gets more seats, because each turn of the event loop and each wake-up
of grpc's threads then serves several calls: 785 µs of CPU for a denied call with 2 seats, 574 with 16.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Final, NoReturn

from eksgateway.errors import Overloaded
from eksgateway.rpc.counts import count_down, count_up
from eksgateway.rpc.queues import Band, Flow, Queues, Seat

SEATS: Final = 4  # with 8, cancels of another caller wait longer in a flood: p95 150 ms, not 120
SEAT_WAIT_S: Final = 10.0  # a call that would wait longer fails with OVERLOADED
_SEATS_PER_CALLER: Final = 2
SEATS_ALONE: Final = 12  # of a caller, while there are no others
_ALONE_AFTER_S: Final = 1.0  # or a caller that makes one call after the other would meet 12 each time
_SERVED_WITHOUT_QUEUE: Final = 24  # below it a caller with no call being served does not wait
_TICK_S: Final = 0.005  # between checks of the processor while calls wait
# By ``Flow.key``: a caller or a connection. Refusals beyond the burst are delayed.
_REFUSALS_PER_S: Final = 50
_REFUSALS_AT_ONCE: Final = 10
_MAX_REFUSAL_DELAY_S: Final = 2.0


@dataclass(eq=False)
class Admission:
    """At most ``max_waiting`` calls wait, each for at most ``patience`` seconds. A caller is alone
    ``alone_after`` seconds after the last call of another.
    """

    max_waiting: int
    cpu_is_idle: Callable[[], bool]
    on_refusal: Callable[[Flow], None]
    patience: float = SEAT_WAIT_S
    alone_after: float = _ALONE_AFTER_S

    def __post_init__(self) -> None:
        self._queues = Queues()
        self._held: dict[str, int] = {}  # calls that wait or are served, by key
        self._served: dict[str, int] = {}  # calls that are served, by key
        self._alone_from = 0.0  # the event loop's time
        self.serving = 0  # calls that hold a seat
        self._arrivals: deque[Seat] = deque()  # seats that were queued, in order; some are served by now
        self._seat_was_freed = False  # and given to a waiting call, since the last tick
        # Connections whose last call was not authenticated: each tick one of them may be served again.
        self._unauthenticated: dict[str, None] = {}
        self._next_refusal: dict[str, float] = {}  # earliest time by key, oldest first
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        return len(self._queues)

    async def enter(self, flow: Flow, max_held: int) -> Seat:
        """Wait for a seat. Raises Overloaded, at once when the key has ``max_held`` calls already."""
        seat = Seat(flow)
        if self._held.get(flow.key, 0) >= max_held:
            await self._refuse(flow)
        if self._starts_at_once(flow):
            self._hold(flow)
            self._serve(seat)
            return seat
        if len(self._queues) >= self.max_waiting and not self._shorten_longest_queue(flow):
            await self._refuse(flow)
        self._hold(flow)
        await self._wait(seat)
        return seat

    def leave(self, seat: Seat) -> None:
        """Give up the seat of a call."""
        self.serving -= 1
        count_down(self._served, seat.flow.key)
        count_down(self._held, seat.flow.key)
        if seat.flow.band is Band.STRANGER:
            self._unauthenticated[seat.flow.key] = None
            self._set_timer()
        self._fill_seats()

    def move(self, seat: Seat, flow: Flow) -> None:
        """Count a served call as one of another flow."""
        for counts in (self._served, self._held):
            count_down(counts, seat.flow.key)
            count_up(counts, flow.key)
        seat.flow = flow
        self._fill_seats()

    async def _wait(self, seat: Seat) -> None:
        loop = asyncio.get_running_loop()
        seat.turn = loop.create_future()
        seat.waits_until = loop.time() + self.patience
        self._arrivals.append(seat)
        self._queues.add(seat)
        self._set_timer()
        try:
            await seat.turn
        except asyncio.CancelledError:
            if seat.served:  # its turn came just as its client left
                self.leave(seat)
            elif seat.served is None:
                self._drop(seat)
            raise
        if not seat.served:
            await self._refuse(seat.flow)

    def _starts_at_once(self, flow: Flow) -> bool:
        if flow in self._queues:
            return False
        if not flow.band.is_per_connection and not self._served.get(flow.key):
            return self.serving < _SERVED_WITHOUT_QUEUE
        # Calls that wait although seats are free belong to flows that hold their share.
        return self.serving < self._seats(SEATS) and self._is_below_share(flow)

    def _is_below_share(self, flow: Flow) -> bool:
        if flow.band is Band.STRANGER and flow.key in self._unauthenticated:
            return False
        share = 1 if flow.band.is_per_connection else self._seats(_SEATS_PER_CALLER)
        return self._served.get(flow.key, 0) < share

    def _hold(self, flow: Flow) -> None:
        count_up(self._held, flow.key)
        if len(self._held) > 1:
            self._alone_from = asyncio.get_running_loop().time() + self.alone_after

    def _seats(self, seats: int) -> int:
        is_alone = len(self._held) <= 1 and asyncio.get_running_loop().time() >= self._alone_from
        return SEATS_ALONE if is_alone else seats

    def _fill_seats(self) -> None:
        while self._queues and self.serving < self._seats(SEATS) and self._serve_next(self._is_below_share):
            self._seat_was_freed = True

    def _tick(self) -> None:
        self._timer = None
        self._drop_impatient()
        was_freed, self._seat_was_freed = self._seat_was_freed, False
        if self.cpu_is_idle():
            self._serve_next(lambda _: True)
        elif not was_freed:  # all seats are held by calls that wait for a message or for EKS
            self._serve_next(self._is_below_share)
        self._readmit_one()
        self._fill_seats()
        if self._queues or self._unauthenticated:
            self._set_timer()

    def _drop_impatient(self) -> None:
        # Not with a timer for each call: they took 6 of the 26 µs that a wait costs.
        now = asyncio.get_running_loop().time()
        while self._arrivals and (
            self._arrivals[0].served is not None or self._arrivals[0].waits_until <= now
        ):
            seat = self._arrivals.popleft()
            if seat.served is None:
                self._drop(seat)

    def _set_timer(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_TICK_S, self._tick)

    def _readmit_one(self) -> None:
        """Let one unauthenticated connection with waiting calls be served again."""
        while self._unauthenticated:
            key = next(iter(self._unauthenticated))
            del self._unauthenticated[key]
            if Flow(key, Band.STRANGER) in self._queues:
                return

    def _serve_next(self, admits: Callable[[Flow], bool]) -> bool:
        seat = self._queues.take(admits)
        if seat is not None:
            self._serve(seat)
        return seat is not None

    def _serve(self, seat: Seat) -> None:
        """Serve a call that is in no queue."""
        self.serving += 1
        count_up(self._served, seat.flow.key)
        self._end_wait(seat, served=True)

    def _shorten_longest_queue(self, flow: Flow) -> bool:
        """Drop the newest call of the longest queue, unless the flow's own queue is about as long."""
        newest = self._queues.last_of_longest()
        if self._queues.length(newest.flow) <= self._queues.length(flow) + 1:
            return False
        self._drop(newest)
        return True

    def _drop(self, seat: Seat) -> None:
        self._queues.remove(seat)
        count_down(self._held, seat.flow.key)
        self._end_wait(seat, served=False)

    def _end_wait(self, seat: Seat, *, served: bool) -> None:
        seat.served = served
        if seat.turn is not None and not seat.turn.done():  # its client may be leaving
            seat.turn.set_result(None)

    async def _refuse(self, flow: Flow) -> NoReturn:
        """Delays frequent refusals of a key: a flood sends another call as soon as one is refused."""
        self.on_refusal(flow)
        now = asyncio.get_running_loop().time()
        due = max(now, self._next_refusal.pop(flow.key, 0.0))
        self._next_refusal[flow.key] = min(due + 1 / _REFUSALS_PER_S, now + _MAX_REFUSAL_DELAY_S)
        # Forget up to two old keys for each new one.
        for key, earliest in list(islice(self._next_refusal.items(), 2)):
            if earliest <= now:
                del self._next_refusal[key]
        if due - now > _REFUSALS_AT_ONCE / _REFUSALS_PER_S:
            await asyncio.sleep(due - now)
        raise Overloaded
