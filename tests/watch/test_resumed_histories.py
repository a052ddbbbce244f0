"""Any history of EKS, cut anywhere and resumed on any replica, reads as one stream."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from random import Random

from hypothesis import example, given, settings
from hypothesis import strategies as st

from eksgateway.errors import EksThrottled, EksUnavailable, GatewayError
from eksgateway.model import Update
from eksgateway.watch.events import WatchEvent, WatchKind
from eksgateway.watch.resume import decode, encode
from eksgateway.watch.watches import Watches
from support.clock import FakeClock
from support.watching import REF, SETTINGS, FakeReads, FakeRecord, Stream, an_update

REPLICAS = 2
# As EKS goes on, step back included: a cancellation fails, and another one is requested.
STORY = (
    an_update(),
    an_update(cancellation="InProgress"),
    an_update("Cancelling"),
    an_update(cancellation="Failed"),
    an_update("Reticulating", cancellation="Failed"),
    an_update("Cancelling", cancellation="InProgress"),
)
END = an_update("Cancelled", cancellation="Successful")

_REPLICA = st.integers(0, REPLICAS - 1)
_STEPS = st.one_of(
    st.just("next"),
    st.sampled_from([0.5, 2.0, 12.0]),  # seconds pass
    _REPLICA,  # cut off, and back on that replica
    st.tuples(_REPLICA, st.sampled_from(["hold", "release", "ok", "down", "throttled", "watch", "leave"])),
    st.just("cut"),
)
_FAULTS = {"ok": None, "down": EksUnavailable(), "throttled": EksThrottled()}


class _OffClock:
    """A clock whose wall-clock time is off by some seconds."""

    def __init__(self, clock: FakeClock, off: float) -> None:
        self._clock = clock
        self._off = timedelta(seconds=off)
        self.monotonic = clock.monotonic
        self.sleep = clock.sleep
        self.call_later = clock.call_later

    def now(self) -> datetime:
        return self._clock.now() + self._off


class _Replica:
    """A gateway's watches with reads and a clock of their own, and perhaps another watcher."""

    def __init__(self, clock: FakeClock, off: float) -> None:
        there = _OffClock(clock, off)
        self.reads = FakeReads(there)
        self.watches = Watches(self.reads, FakeRecord(), there, SETTINGS, Random(1))
        self.fault: Exception | None = None
        self.other: asyncio.Task[None] | None = None

    async def watch(self, stream: Stream, token: str) -> None:
        position = decode(token, REF) if token else None
        try:
            with self.watches.subscribe(REF, position) as watcher:
                await stream.read(watcher, SETTINGS.heartbeat_s, position)
        except GatewayError as exc:
            stream.error = exc


@dataclass
class _Line:
    """One client and all events that it got."""

    received: list[WatchEvent] = field(default_factory=list)
    stream: Stream | None = None
    task: asyncio.Task[None] | None = None

    @property
    def token(self) -> str:
        return encode(REF, self.received[-1].position) if self.received else ""

    def come_back(self, replica: _Replica) -> None:
        self.cut()
        self.stream = Stream()
        self.task = asyncio.create_task(replica.watch(self.stream, self.token))

    def cut(self) -> None:
        if self.task is not None and self.stream is not None:
            self.task.cancel()
            self.received += self.stream.events
            self.task = self.stream = None


class _World:
    def __init__(self, offs: list[float]) -> None:
        self.clock = FakeClock()
        self.replicas = [_Replica(self.clock, off) for off in offs]
        self.line = _Line()
        self._place = 0
        self._ended = False
        for replica in self.replicas:
            self._happen(replica, "watch")

    @property
    def now(self) -> Update:
        return END if self._ended else STORY[self._place]

    async def play(self, step: str | float | tuple[int, str]) -> None:
        match step:
            case "next":
                self._place = min(self._place + 1, len(STORY) - 1)
            case "cut":
                self.line.cut()
            case float():
                await self.clock.advance(step)
            case int():
                self.line.come_back(self.replicas[step])
            case (int(number), str(what)):
                self._happen(self.replicas[number], what)
        self._set_answers()
        await self.clock.advance()

    def _happen(self, replica: _Replica, what: str) -> None:
        match what:
            case "hold":
                replica.reads.open.clear()
            case "release":
                replica.reads.open.set()
            case "watch" if replica.other is None or replica.other.done():
                replica.other = asyncio.create_task(replica.watch(Stream(), ""))
            case "leave" if replica.other is not None:
                replica.other.cancel()
            case "ok" | "down" | "throttled":
                replica.fault = _FAULTS[what]

    def _set_answers(self) -> None:
        for replica in self.replicas:
            replica.reads.answer = replica.fault or self.now

    async def end(self) -> None:
        """EKS and the replicas recover, the update ends, and the client resumes once more."""
        self._ended = True
        for replica in self.replicas:
            replica.fault = None
            replica.reads.open.set()
        self._set_answers()
        self.line.come_back(self.replicas[0])
        await self.clock.advance(130)  # twice the longest back-off: a last failure may be under way
        if self.line.stream is not None and self.line.stream.error is not None:
            self.line.come_back(self.replicas[0])
            await self.clock.advance(6)
        self.line.cut()

    async def close(self) -> None:
        for replica in self.replicas:
            await replica.watches.close()
        tasks = [replica.other for replica in self.replicas if replica.other is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.clock.advance()


@example([(0, "leave"), "next", 0, 1], [0.0, 0.0])  # all at one instant of the clock
@settings(max_examples=200, deadline=None)
@given(st.lists(_STEPS, max_size=40), st.lists(st.floats(-120, 120), min_size=REPLICAS, max_size=REPLICAS))
async def test_any_history_with_any_cuts_reads_as_one_stream(
    steps: list[str | float | tuple[int, str]], offs: list[float]
) -> None:
    """One snapshot, no gap, no repetition, no step back in time, one FINAL."""
    world = _World(offs)
    try:
        for step in steps:
            await world.play(step)
        await world.end()
        _check(world.line.received)
    finally:
        await world.close()


def _check(received: list[WatchEvent]) -> None:
    news = [event for event in received if event.kind is not WatchKind.HEARTBEAT]
    assert [event.sequence for event in news] == list(range(1, len(news) + 1))
    assert [event.kind for event in news[:1]] == [WatchKind.SNAPSHOT]
    assert all(event.kind is WatchKind.CHANGE for event in news[1:-1])
    assert (news[-1].kind, news[-1].update) == (WatchKind.FINAL, END)
    # FINAL alone may repeat a state: that of a snapshot taken after the end.
    states = [event.update for event in news]
    if len(news) == 2 and states[0] == END:
        return
    places = [(*STORY, END).index(update) for update in states]
    assert all(one < other for one, other in pairwise(places)), places
    for before, event in pairwise(received):
        if event.kind is WatchKind.HEARTBEAT:
            assert (event.update, event.sequence) == (before.update, before.sequence)
