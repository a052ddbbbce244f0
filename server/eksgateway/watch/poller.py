"""Polls one update for all its watchers, and for the ledger while a cancellation is pending."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random

from eksgateway.clock import Clock, wait_for
from eksgateway.eks.shared_reads import SeenUpdate, SharedReads
from eksgateway.errors import EksNotFound, GatewayError
from eksgateway.logs import Log
from eksgateway.model import Cancellation, Observation, UpdateRef
from eksgateway.settings import WatchSettings
from eksgateway.watch.poll_interval import PollInterval
from eksgateway.watch.recording import ObservationRecorder, RecordObservation, as_gateway_error
from eksgateway.watch.resume import ResumePosition
from eksgateway.watch.slot import Slot
from eksgateway.watch.tracked_update import TrackedUpdate
from eksgateway.watch.watchers import WatcherSet

log = Log(__name__)


@dataclass(eq=False)
class Poller:
    """One task per update: read, record, publish, rest.

                    ┌────────────── rest ◄─────────────┐
                    ▼                                  │
      start ──► read EKS ──► record, if owed ──► publish ──► end: the update is final and recorded, or
                    │                                             there is no watcher and nothing pending
                    └─ failed: no read ever succeeded ────────► end: watchers get the error
                               404 for ten minutes, recorded ─► end: watchers get EksNotFound
                               otherwise: the known state stays, and grows old

    A cancel's own answer counts as a read: a poller that starts with one rests first.

    An answer is recorded before it is published, but also published when the ledger cannot be written. Each
    poll tries the record again; with a pending cancellation the last one must be recorded before the end.

    A poll may use another replica's read that began in the second half of the rest. A change that another
    replica read is published at its notice. That replica records it, this one asks the ledger a poll later.
    """

    ref: UpdateRef
    reads: SharedReads
    record_observation: RecordObservation
    clock: Clock
    settings: WatchSettings
    random: Random

    def __post_init__(self) -> None:
        now = self.clock.monotonic()
        self._interval = PollInterval(self.settings, self.random, now)
        self._known = TrackedUpdate()
        self._recorder = ObservationRecorder(self.ref, self.record_observation)
        self._watchers = WatcherSet(self.settings.poll_s)
        self._wake = asyncio.Event()
        self._read_task: asyncio.Future[SeenUpdate] | None = None
        self._polled = False
        self._rests_first = False
        self._poll_requested = False  # since the last poll began
        self._noticed = False  # another replica may have a newer read
        self._oldest = now - self.settings.poll_s  # a shared read that began after this counts as a poll

    @property
    def watchers(self) -> int:
        return len(self._watchers)

    @property
    def pending(self) -> bool:
        return self._known.pending

    def attach(self, slot: Slot, since: float, position: ResumePosition | None) -> None:
        """The watcher gets the known state at once if that is fresh, else after a poll."""
        self._watchers.add(slot, since, position, self._known)
        self._wake.set()  # the interval is longer without watchers

    def detach(self, slot: Slot) -> None:
        self._watchers.remove(slot)
        self._wake.set()
        if self._over and self._read_task is not None:
            self._read_task.cancel()

    def follow(self, cancellation: Cancellation, began: float | None) -> None:
        """As ``Watches.follow``; without ``began`` the next poll comes soon."""
        self._follow(cancellation, began, answered=began is not None)

    def take_up(self, cancellation: Cancellation, *, pending: bool) -> None:
        """As ``Watches.take_up``."""
        if self._known.is_news(cancellation):
            self._follow(cancellation, None, answered=cancellation.is_as_answered)
            return
        self._known.take_up(cancellation, self.clock.monotonic(), pending=pending)
        self._watchers.publish(self._known)
        self._wake.set()

    def _follow(self, cancellation: Cancellation, began: float | None, *, answered: bool) -> None:
        """``answered``: EKS's answer to the cancel, here or at another replica, counts as a poll."""
        now = self.clock.monotonic()
        self._known.follow(cancellation, now, began)
        self._interval.record_change(now)
        self._rests_first = answered
        if not answered:
            self._poll_requested = True
            self._oldest = max(self._oldest, now - self.settings.poll_min_s / 2)
        else:
            self._interval.record_poll(now)
        self._watchers.publish(self._known)
        self._wake.set()

    def close(self, error: GatewayError) -> None:
        """End every watch with an error; cancellations are still followed."""
        self._watchers.close(error)

    async def run(self) -> None:
        """There is no await between the last check of ``_over`` and the return."""
        unsubscribe = self.reads.subscribe(self.ref, self._hear)
        try:
            if self._rests_first and not self._polled:
                await self._rest()
            while not self._over:
                await self._poll()
                await self._rest()
        finally:
            unsubscribe()

    def _hear(self) -> None:
        self._noticed = True
        self._wake.set()
        if self._read_task is not None:
            self._read_task.cancel()  # it may wait for its turn; the next one finds the other replica's read

    @property
    def _over(self) -> bool:
        return self._known.is_over(watched=self.watchers > 0)

    async def _poll(self) -> None:
        self._polled, self._poll_requested = True, False
        await self._update(self._read_while_needed)

    async def _take_notice(self) -> None:
        self._noticed = False
        known = self._known.sighting
        oldest = known.began if known else -math.inf
        await self._update(lambda: self.reads.find(self.ref, oldest))

    async def _update(self, read: Callable[[], Awaitable[SeenUpdate | None]]) -> None:
        """Read, record, publish."""
        recorded_elsewhere = False
        if self._known.needs_read:
            recorded_elsewhere = await self._read(read)
        else:
            self._interval.shared_begin = None
        if self._known.given_up:
            return
        observation = None if recorded_elsewhere else self._known.observation_to_record()
        if observation is not None:
            version = self._known.version
            summary = await self._recorder.record(observation)
            if summary is not None:
                self._known.confirm(version, summary)
        self._watchers.publish(self._known)

    async def _read(self, read: Callable[[], Awaitable[SeenUpdate | None]]) -> bool:
        """Return whether another replica read a change, which it records."""
        try:
            seen = await read()
        except Exception as exc:  # noqa: BLE001 - a bug below must not end the following of a cancellation
            await self._fail(as_gateway_error(exc))
            return False
        if seen is None:
            return False
        if self._known.failure is not None:
            log.info("watch.poll_recovered", update=str(self.ref))
        now = self.clock.monotonic()
        changed = self._known.see(seen, now)
        if changed:
            self._interval.record_change(now if seen.changed is None else seen.changed)
        if seen.changed is None:
            self._interval.record_poll(now)
        else:
            self._interval.record_shared(str(self.ref), seen, seen.changed)
        return changed and not seen.mine

    async def _read_while_needed(self) -> SeenUpdate | None:
        """None once the poller is over, however long the call's turn takes."""
        while not self._over:
            poll = self.reads.poll(self.ref, self._max_age, is_first=self._known.sighting is None)
            self._read_task = read = asyncio.ensure_future(poll)
            try:
                await asyncio.wait((read,))
            finally:
                read.cancel()  # when this poller's task is cancelled
            if not read.cancelled():  # by ``_hear``, or by ``detach``; a watcher may have come since
                return read.result()
        return None

    @property
    def _max_age(self) -> float:
        if self._known.sighting is None:
            return self.settings.poll_s
        if not self.reads.shared:
            return 0
        oldest = max(self._oldest, self._watchers.joining_since)
        return max(0, self.clock.monotonic() - oldest)

    async def _fail(self, error: GatewayError) -> None:
        if type(error) is not type(self._known.failure):
            log.warning("watch.poll_failed", update=str(self.ref), reason=error.reason, detail=error.detail)
        self._known.fail(error)
        now = self.clock.monotonic()
        self._interval.record_poll(now)
        if self._known.given_up:
            self.close(error)
        elif isinstance(error, EksNotFound) and self._known.missing_for(now) >= self.settings.missing_after_s:
            await self._give_up(error)

    async def _give_up(self, error: EksNotFound) -> None:
        version = self._known.version
        minutes = self.settings.missing_after_s / 60
        note = f"EKS has not known this update for {minutes:g} minutes."
        observation = Observation(self._now(), None, note)
        if not self._known.pending or await self._recorder.record(observation) is not None:
            self._known.give_up(version)
        self.close(error)

    async def _rest(self) -> None:
        ended = self.clock.monotonic()
        while not self._over:
            if self._noticed:
                await self._take_notice()
                continue
            requested = self._poll_requested or self._watchers.any_joining
            rest = self._interval.rest(ended, watched=self.watchers > 0, requested=requested)
            due_in = rest.end - self.clock.monotonic()
            due_in = min(due_in, self._known.seconds_to_trace_check(self._now()))
            if due_in <= 0:
                self._oldest = rest.middle
                return
            self._wake.clear()
            await wait_for(self._wake, self.clock, due_in)

    def _now(self) -> datetime:
        """By the clock that dates reads, which is the database's where replicas share them."""
        known = self._known.sighting
        if known is None or not known.is_timed:
            return self.clock.now()
        return known.observe_time + timedelta(seconds=self.clock.monotonic() - known.began)
