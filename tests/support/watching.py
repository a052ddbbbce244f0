"""Scripted EKS reads and ledger writes for tests of watches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from random import Random

from eksgateway import phases
from eksgateway.clock import Clock
from eksgateway.eks.shared_reads import SeenUpdate, SharedReads
from eksgateway.errors import GatewayError
from eksgateway.ledger.protocol import CancellationSummary
from eksgateway.model import (
    Cancellation,
    CancelRequest,
    ClusterRef,
    Observation,
    Outcome,
    OutcomeKind,
    Update,
    UpdateCancellation,
    UpdateRef,
)
from eksgateway.settings import WatchSettings
from eksgateway.watch.events import WatchEvent, WatchKind, watch_events
from eksgateway.watch.resume import ResumePosition
from eksgateway.watch.slot import Slot
from eksgateway.watch.watches import Watches
from support import records
from support.clock import FakeClock

CLUSTER = ClusterRef("111122223333", "us-east-1", "prod")
REF = UpdateRef(CLUSTER, "update-1")
SETTINGS = WatchSettings()
START = datetime(2026, 1, 1, tzinfo=UTC)


def an_update(status: str = "InProgress", cancellation: str = "") -> Update:
    """The update with this status and, if given, this status of its cancellation."""
    block = UpdateCancellation(cancellation, "") if cancellation else None
    return Update(REF.update_id, status, "VersionRollback", cancellation=block)


def a_cancellation(
    kind: OutcomeKind | None = OutcomeKind.ACCEPTED,
    update: Update | None = None,
    *,
    number: int = 1,
    time: datetime = START,
) -> Cancellation:
    """A record of the ledger. ``update`` is CancelUpdate's answer."""
    intent = records.intent(str(number), request=CancelRequest(REF), update=an_update(), time=time)
    outcome = Outcome(kind, time, update) if kind else None
    seen = update or intent.update
    phase = phases.phase_of(outcome, seen)
    return Cancellation(intent, phase, "", seen, outcome, phase in phases.SETTLED, time, time)


class FakeReads(SharedReads):
    """Returns or raises ``answer`` as of the call's begin; counts the calls.

    While ``open`` is cleared, answers wait.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.shared = False  # then each answer is another replica's read, ``age`` seconds old
        self.age = 0.0
        self.answer: Update | Exception = an_update()
        self.calls: list[float] = []  # when
        self.max_ages: list[float] = []
        self.open = asyncio.Event()
        self.open.set()

    def subscribe(self, ref: UpdateRef, hear: Callable[[], None]) -> Callable[[], None]:  # noqa: ARG002
        return lambda: None

    async def poll(self, ref: UpdateRef, max_age: float, *, is_first: bool = False) -> SeenUpdate:  # noqa: ARG002 - one update is scripted
        answer, time, began = self.answer, self._clock.now(), self._clock.monotonic()
        self.calls.append(began)
        self.max_ages.append(max_age)
        await self.open.wait()
        if isinstance(answer, Exception):
            raise answer
        if self.shared:
            began -= self.age
            time -= timedelta(seconds=self.age)
            return SeenUpdate(answer, time, began, changed=began, mine=False)
        return SeenUpdate(answer, time, began)


class FakeRecord:
    """The ledger's record_observation, over the cancellations ``held``. Raises ``fails`` if set.

    While ``open`` is cleared, answers wait; each has the state of the call's begin.
    """

    def __init__(self) -> None:
        self.held: list[Cancellation] = []
        self.observations: list[Observation] = []
        self.attempts = 0
        self.fails: Exception | None = None
        self.open = asyncio.Event()
        self.open.set()

    async def __call__(self, ref: UpdateRef, observation: Observation) -> CancellationSummary:  # noqa: ARG002
        self.attempts += 1
        if self.fails is not None:
            raise self.fails
        self.observations.append(observation)
        self.held = [one if one.settled else _with_observation(one, observation) for one in self.held]
        newest = self.held[-1] if self.held else None
        known = CancellationSummary(newest, any(not one.settled for one in self.held))
        await self.open.wait()
        return known

    @property
    def statuses(self) -> list[str | None]:
        """The statuses of the observations, in order. None is the end of following."""
        return [one.update.status if one.update else None for one in self.observations]


def _with_observation(one: Cancellation, observation: Observation) -> Cancellation:
    update = observation.update
    if update is None:
        return replace(one, phase_reason=observation.note, settled=True)
    phase = phases.phase_of(one.outcome, update)
    return replace(
        one,
        update=update,
        phase=phase,
        phase_reason=observation.note,
        settled=phase in phases.SETTLED,
        update_time=observation.time,
    )


@dataclass
class Stream:
    """The states of one watcher, and the error that ended it."""

    events: list[WatchEvent] = field(default_factory=list)
    ended: bool = False
    error: GatewayError | None = None

    async def read(self, watcher: Slot, heartbeat_s: float, position: ResumePosition | None) -> None:
        try:
            async for event in watch_events(watcher, heartbeat_s, position):
                self.events.append(event)
        except GatewayError as exc:
            self.error = exc
        self.ended = True

    @property
    def received(self) -> list[tuple[str, str, str | None, int]]:
        """Kind, status, phase and sequence of each event."""
        return [(one.kind, one.update.status, one.phase, one.sequence) for one in self.events]

    @property
    def news(self) -> list[tuple[str, str, str | None, int]]:
        """``received`` without heartbeats."""
        return [one for one in self.received if one[0] != WatchKind.HEARTBEAT]

    @property
    def statuses(self) -> list[str]:
        """The status of each event but heartbeats."""
        return [one.update.status for one in self.events if one.kind is not WatchKind.HEARTBEAT]


@dataclass
class Stage:
    """The watches under test and their surroundings."""

    clock: FakeClock = field(default_factory=FakeClock)
    record: FakeRecord = field(default_factory=FakeRecord)
    settings: WatchSettings = SETTINGS
    reads: FakeReads = field(init=False)
    watches: Watches = field(init=False)

    def __post_init__(self) -> None:
        self.reads = FakeReads(self.clock)
        self.watches = Watches(self.reads, self.record, self.clock, self.settings, Random(1))

    @classmethod
    @asynccontextmanager
    async def set_up(cls) -> AsyncIterator[Stage]:
        """A stage. At the end it is closed, and nothing may be left running."""
        stage = cls()
        try:
            yield stage
        finally:
            await stage.watches.close()
            await stage.clock.advance()
            assert stage.watches.pollers == 0
            assert stage.clock.sleepers == 0

    @asynccontextmanager
    async def watching(self, position: ResumePosition | None = None) -> AsyncIterator[Stream]:
        """A watcher that reads every event, as a servicer with a fast client does."""
        stream = Stream()
        with self.watches.subscribe(REF, position) as watcher:
            task = asyncio.create_task(stream.read(watcher, self.settings.heartbeat_s, position))
            try:
                await self.clock.advance()
                yield stream
            finally:
                task.cancel()
                await asyncio.wait((task,))

    async def commit(self, cancellation: Cancellation, began: float | None = None) -> None:
        """Record a cancellation and follow it, as the cancel flow does."""
        self.record.held.append(cancellation)
        self.watches.follow(cancellation, began)
        await self.clock.advance()
