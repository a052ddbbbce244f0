"""Looks at one update for everybody who watches it, and for the ledger while a cancellation is pending."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from random import Random
from typing import Protocol

from eksgateway import phases
from eksgateway.clock import Clock, wait_for
from eksgateway.eks.shared import Seen
from eksgateway.errors import EksNotFound, GatewayError
from eksgateway.logs import Log
from eksgateway.model import Cancellation, Intent, Observation, Phase, UpdateRef
from eksgateway.settings import WatchSettings
from eksgateway.watch.notes import Notes, Record, as_gateway_error
from eksgateway.watch.pace import Pace
from eksgateway.watch.resume import ResumePosition
from eksgateway.watch.slot import Slot
from eksgateway.watch.state import Report, WatchState, latest, published_phase, published_reason, recorded

log = Log(__name__)


class Reads(Protocol):
    """Where pollers look: ``eks.shared.SharedReads``."""

    async def poll(self, ref: UpdateRef, max_age: float) -> Seen:
        """DescribeUpdate, at most ``max_age`` seconds old, when its turn comes."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What every poller works with."""

    reads: Reads
    record: Record
    clock: Clock
    settings: WatchSettings
    random: Random


@dataclass(frozen=True, slots=True)
class _Newcomer:
    """Somebody still without a state: since when, and where an earlier stream had brought them."""

    since: float
    position: ResumePosition | None


class Poller:
    """One task per update: look, write down, publish, rest.

                    ┌────────────── rest ◄─────────────┐
                    ▼                                  │
      start ──► read EKS ──► record, when new ──► publish ──► end: the update is final and recorded,
                    │                                              or nobody watches and nothing is pending
                    └─ failed: nothing ever seen ─────────────► end: watchers get the error
                               404 for ten minutes, recorded ─► end: watchers get EksNotFound
                               otherwise: what is known stays, and grows old

    A cancel's own answer is a look too: a poller that starts with one rests first.

    What EKS says is written down before it is published, and published also when the ledger
    cannot be written: EKS said it. That record is tried again at each look, and a poller with a
    pending cancellation does not end before its last observation is recorded.

    A watcher's first state is what others who watch know already, so that one who joins them costs
    EKS nothing; else it was read after it came, or is at most ``poll_s`` old; only while EKS cannot
    be read is it the last one known, with its old observe time. Who comes back from an earlier
    stream is never told an older state than there (``watch.resume``), but EKS's error.
    """

    def __init__(self, ref: UpdateRef, tools: Tools) -> None:
        self.ref = ref
        self._tools = tools
        self._clock = tools.clock
        self._settings = tools.settings
        self._pace = Pace(tools.settings, tools.random, tools.clock.monotonic())
        self._notes = Notes(ref, tools.record)
        self._wake = asyncio.Event()
        self._watchers: set[Slot] = set()
        self._newcomers: dict[Slot, _Newcomer] = {}
        self._report: Report | None = None
        self._newest: Cancellation | None = None
        self._ended: Intent | None = None  # whose attempt certainly is not under way any more
        self._pending = False
        self._looked = False  # at all
        self._followed = False  # since the last look began
        self._version = 0  # rises whenever there is something to tell the ledger, or to ask it
        self._recorded = 0  # the version the ledger knows
        self._reading: asyncio.Future[Seen] | None = None
        self._failure: GatewayError | None = None
        self._missing_since: float | None = None
        self._given_up = False

    @property
    def watchers(self) -> int:
        return len(self._watchers) + len(self._newcomers)

    @property
    def pending(self) -> bool:
        """Whether a cancellation is to be followed."""
        return self._pending

    def attach(self, slot: Slot, since: float, position: ResumePosition | None) -> None:
        """Let somebody watch: at once from what is known, if that is fresh, else after a look."""
        newcomer = _Newcomer(since, position)
        if self._report is not None and self._fresh(self._report, newcomer):
            self._watchers.add(slot)
            slot.put(self._state(self._report))
        else:
            self._newcomers[slot] = newcomer
        self._wake.set()  # a rest without watchers is longer

    def detach(self, slot: Slot) -> None:
        """The watcher has left; the last one ends a poller that nothing else needs."""
        self._watchers.discard(slot)
        self._newcomers.pop(slot, None)
        self._wake.set()
        if self._over and self._reading is not None:
            self._reading.cancel()

    def follow(self, cancellation: Cancellation, answered: float | None) -> None:
        """Take over what the cancellation's record says, publish it, and go on until it is settled.

        ``answered`` is as in ``Watches.follow``; without it the next look comes soon.
        """
        now = self._clock.monotonic()
        newest = self._newest
        if newest is None or newest.id == cancellation.id or newest.intent.time <= cancellation.intent.time:
            self._newest, self._ended = cancellation, cancellation.intent
        self._pending = self._pending or not cancellation.settled
        self._report = latest(self._report, recorded(cancellation, now, answered))
        self._version += 1
        self._pace.changed(now)
        if answered is None:
            self._followed = True
        else:
            self._pace.looked(now)
        self._publish()
        self._wake.set()

    def close(self, error: GatewayError) -> None:
        """End every watch with an error; following goes on."""
        for slot in (*self._watchers, *self._newcomers):
            slot.close(error)

    async def run(self) -> None:
        """Poll until it is over. Nothing is awaited between finding that and returning."""
        if not self._looked and self._report is not None and self._report.read:
            await self._rest()
        while not self._over:
            await self._look()
            await self._rest()

    @property
    def _over(self) -> bool:
        if self._given_up:
            return True
        if self._report is not None and self._report.update.final:
            return not self._pending or self._recorded == self._version
        return not self.watchers and not self._pending

    @property
    def _owes_ledger(self) -> bool:
        """Whether there is something to write down, or an outcome still to hear of."""
        newest, report = self._newest, self._report
        if newest is None or report is None:
            return self._recorded != self._version
        unnoted = self._note(report) not in ("", newest.phase_reason)
        return self._recorded != self._version or newest.outcome is None or unnoted

    async def _look(self) -> None:
        self._looked, self._followed = True, False
        known = self._report
        if known is None or not known.read or not known.update.final:
            await self._read()
        if self._report is None or self._given_up:
            return
        if self._report.read and self._owes_ledger:
            await self._write_down(self._report)
        self._publish()

    async def _read(self) -> None:
        try:
            seen = await self._seen()
        except Exception as exc:  # noqa: BLE001 - a bug below must not end a pending cancellation's following
            await self._failed(as_gateway_error(exc))
            return
        if seen is None:
            return
        if self._failure is not None:
            log.info("watch.poll_recovered", update=str(self.ref))
        self._failure = self._missing_since = None
        now = self._clock.monotonic()
        before = self._report  # follow() may have changed it meanwhile
        self._report = latest(before, Report(seen.update, seen.observe_time, seen.stamp, now))
        if before is None or before.update != self._report.update:
            self._version += 1
        if before is not None and before.update != self._report.update:
            self._pace.changed(now)
        self._pace.looked(now)

    async def _seen(self) -> Seen | None:
        """What EKS says, however long the turn takes; None as soon as nobody needs to know."""
        max_age = 0 if self._report else self._settings.poll_s
        while not self._over:
            self._reading = reading = asyncio.ensure_future(self._tools.reads.poll(self.ref, max_age))
            try:
                await asyncio.wait((reading,))
            finally:
                reading.cancel()  # when this poller is closed
            if not reading.cancelled():  # else by ``detach``; somebody may have come since
                return reading.result()
        return None

    async def _failed(self, error: GatewayError) -> None:
        if type(error) is not type(self._failure):
            log.warning("watch.poll_failed", update=str(self.ref), reason=error.reason, detail=error.detail)
        self._failure = error
        self._pace.looked(self._clock.monotonic())
        if self._report is None:
            self._given_up = True
            self.close(error)
        elif isinstance(error, EksNotFound):
            await self._missing(error)

    async def _missing(self, error: EksNotFound) -> None:
        """After ten minutes without the update: say so in the ledger, and to whoever watches."""
        now = self._clock.monotonic()
        if self._missing_since is None:
            self._missing_since = now
        if now - self._missing_since < self._settings.missing_after_s:
            return
        version = self._version
        minutes = self._settings.missing_after_s / 60
        note = f"EKS has not known this update for {minutes:g} minutes."
        observation = Observation(self._clock.now(), None, note)
        written = not self._pending or await self._notes.take(observation) is not None
        self._given_up = written and version == self._version  # a new cancellation is not given up
        self.close(error)

    async def _write_down(self, report: Report) -> None:
        version = self._version
        observation = Observation(report.observe_time, report.update, self._note(report))
        known = await self._notes.take(observation)
        if known is None:
            return
        self._recorded = version
        if version == self._version:  # else follow() came in between, and the ledger is asked again
            self._newest, self._pending = known.newest, known.pending

    def _note(self, report: Report) -> str:
        """What the report means for a cancel that was not answered, if it means anything."""
        newest = self._attempted
        unseen = newest is not None and phases.has_no_trace(newest, report.update, report.observe_time)
        return phases.NO_TRACE if unseen else ""

    @property
    def _attempted(self) -> Cancellation | None:
        """The newest cancellation, unless its cancel may still be on its way: the ledger shows it before."""
        newest = self._newest
        attempted = newest is not None and (newest.outcome is not None or newest.intent == self._ended)
        return newest if attempted else None

    def _until_unseen(self) -> float:
        """Seconds until a look can tell whether an unanswered cancel has left a trace."""
        newest, report = self._attempted, self._report
        if newest is None or report is None or newest.phase is not Phase.OUTCOME_UNKNOWN or self._failure:
            return math.inf
        tells = phases.no_trace_from(newest)
        if report.read and report.observe_time >= tells:
            return math.inf
        return (tells - self._clock.now()).total_seconds()

    def _publish(self) -> None:
        if self._report is None:
            return
        for slot, newcomer in tuple(self._newcomers.items()):
            if self._fresh(self._report, newcomer):
                del self._newcomers[slot]
                self._watchers.add(slot)
            elif newcomer.position is not None and self._failure is not None:
                slot.close(self._failure)  # what is known may be older than what it was told
        state = self._state(self._report)
        for slot in self._watchers:
            slot.put(state)

    def _state(self, report: Report) -> WatchState:
        phase = published_phase(self._newest, report.update)
        reason = published_reason(self._newest, phase)
        return WatchState(report.update, phase, report.observe_time, reason)

    def _fresh(self, report: Report, newcomer: _Newcomer) -> bool:
        """Whether a report may be the first state of somebody who watches since then."""
        position = newcomer.position
        if position is not None:
            asked_since = report.begun > newcomer.since
            return asked_since or report.update.final or position.tells_of(self._state(report))
        young = report.begun >= newcomer.since - self._settings.poll_s
        return bool(self._watchers) or young or report.update.final or self._failure is not None

    async def _rest(self) -> None:
        """Until the next look is due; somebody who comes, leaves or cancels changes when that is."""
        since = self._clock.monotonic()
        while not self._over:
            asked = self._followed or bool(self._newcomers)
            due = since + self._pace.rest(watched=self.watchers > 0, asked=asked)
            left = min(due - self._clock.monotonic(), self._until_unseen())
            if left <= 0:
                return
            self._wake.clear()
            await wait_for(self._wake, self._clock, left)
