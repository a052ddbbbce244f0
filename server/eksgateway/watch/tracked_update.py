"""The known state of one update, and the records that the ledger is owed; pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import datetime

from eksgateway import phases
from eksgateway.eks.shared_reads import SeenUpdate
from eksgateway.errors import GatewayError
from eksgateway.ledger.protocol import CancellationSummary
from eksgateway.model import Cancellation, Intent, Observation, Phase, Update
from eksgateway.watch.slot import WatchState


@dataclass(frozen=True, slots=True)
class Sighting:
    """An update as EKS reported it in a call between ``began`` and ``ended`` (monotonic)."""

    update: Update
    observe_time: datetime
    began: float
    ended: float

    @property
    def is_timed(self) -> bool:
        """False for a record, which may be from any time before."""
        return self.began > -math.inf


def latest_of(known: Sighting | None, new: Sighting) -> Sighting:
    """Return the one that stands. A poll that began before a cancel may be answered after it, so:

    1. A final state is replaced only by a final one.
    2. The same state again makes the known sighting younger, never older.
    3. A call that began after the known one ended is newer, whatever its state: EKS goes back from
       Cancelling to InProgress when a cancellation fails.
    4. Otherwise the calls overlapped. The one further along (``phases.rank``) stands; of two equally far,
       the known one. The next poll settles it by rule 3.
    """
    if known is None:
        return new
    if known.update.final and not new.update.final:
        return known
    if new.update == known.update:
        younger = new if new.began >= known.began else known
        return replace(younger, update=known.update, ended=max(new.ended, known.ended))
    if new.began >= known.ended or phases.rank(new.update) > phases.rank(known.update):
        return new
    return known


def _is_outdated(recorded: Sighting, known: Sighting) -> bool:
    """Whether ``known`` was read after the record's update. Both times are the database's."""
    return known.is_timed and recorded.observe_time < known.observe_time and not recorded.update.final


def sighting_in_record(cancellation: Cancellation, ended: float, began: float | None = None) -> Sighting:
    """``began`` is when the CancelUpdate call began that answered with the record's update. Without it, the
    record may be from any time, and replaces only a state that is less far along.
    """
    intent = cancellation.intent
    unchanged = cancellation.update == intent.update  # then it was certainly seen before the intent
    observe_time = intent.time if unchanged else cancellation.update_time
    return Sighting(cancellation.update, observe_time, -math.inf if began is None else began, ended)


class TrackedUpdate:
    """``version`` rises with every change of the update and every cancellation that is followed. The ledger
    is owed an observation until it was asked at this version.
    """

    def __init__(self) -> None:
        self.sighting: Sighting | None = None
        self.failure: GatewayError | None = None  # of the last read
        self.pending = False  # a cancellation is not settled yet
        self.given_up = False  # no read ever succeeded, or EKS has lost the update
        self.version = 0
        self._recorded_version = 0
        self._newest: Cancellation | None = None
        self._ended_attempt: Intent | None = None  # its cancel is no longer in flight
        self._missing_since: float | None = None

    def follow(self, cancellation: Cancellation, now: float, began: float | None) -> None:
        """``began`` is as in ``sighting_in_record``."""
        newest = self._newest
        if newest is None or newest.id == cancellation.id or newest.intent.time <= cancellation.intent.time:
            self._newest, self._ended_attempt = cancellation, cancellation.intent
        self.pending = self.pending or not cancellation.settled
        self.sighting = latest_of(self.sighting, sighting_in_record(cancellation, now, began))
        self.version += 1

    def is_news(self, cancellation: Cancellation) -> bool:
        """Whether it is a newer cancellation, or the newest one with another intent or outcome, or one whose
        cancel was in flight as far as is known.
        """
        newest = self._newest
        if newest is None or newest.id != cancellation.id:
            return newest is None or newest.intent.time <= cancellation.intent.time
        same = (newest.intent, newest.outcome) == (cancellation.intent, cancellation.outcome)
        return not same or self._attempted is None

    def take_up(self, cancellation: Cancellation, now: float, *, pending: bool) -> None:
        """A replica has recorded an observation of a cancellation that is no news.

        ``pending``: some cancellation of the update is known not to be settled.
        """
        newest, before = self._newest, self.sighting
        if newest is not None and newest.id == cancellation.id:
            self._newest = newest = cancellation
        self.pending = pending or (newest is not None and not newest.settled)
        recorded = sighting_in_record(cancellation, now)
        if before is None or not _is_outdated(recorded, before):
            self.sighting = latest_of(before, recorded)
            self.version += before is None or before.update != self.sighting.update

    def see(self, seen: SeenUpdate, now: float) -> bool:
        """Return whether the read changed a known update."""
        self.failure = self._missing_since = None
        before = self.sighting
        self.sighting = latest_of(before, Sighting(seen.update, seen.observe_time, seen.began, now))
        changed = before is None or before.update != self.sighting.update
        self.version += changed
        return changed and before is not None

    def fail(self, error: GatewayError) -> None:
        self.failure = error
        if self.sighting is None:
            self.given_up = True

    def missing_for(self, now: float) -> float:
        if self._missing_since is None:
            self._missing_since = now
        return now - self._missing_since

    def give_up(self, version: int) -> None:
        """End, unless a cancellation came after this version."""
        self.given_up = version == self.version

    def confirm(self, version: int, known: CancellationSummary) -> None:
        """Apply the ledger's answer to ``observation_to_record`` at this version."""
        if not known.outdated:  # else the ledger is asked again with the next poll
            self._recorded_version = version
        if version == self.version:  # else the ledger is asked again
            self._newest, self.pending = known.newest, known.pending

    def is_over(self, *, watched: bool) -> bool:
        if self.given_up:
            return True
        if self.sighting is not None and self.sighting.update.final:
            return not self.pending or self._recorded_version == self.version
        return not watched and not self.pending

    @property
    def needs_read(self) -> bool:
        """False once EKS has answered a call of this process with a final state."""
        sighting = self.sighting
        return sighting is None or not sighting.is_timed or not sighting.update.final

    def observation_to_record(self) -> Observation | None:
        """One without a change asks the ledger for an outcome."""
        sighting, newest = self.sighting, self._newest
        if sighting is None or not sighting.is_timed:
            return None
        attempted, note = self._attempted, ""
        if attempted is not None and phases.has_no_trace(attempted, sighting.update, sighting.observe_time):
            note = phases.NO_TRACE
        news = newest is not None and (newest.outcome is None or note not in ("", newest.phase_reason))
        if self._recorded_version == self.version and not news:
            return None
        return Observation(sighting.observe_time, sighting.update, note)

    @property
    def state(self) -> WatchState | None:
        sighting, newest = self.sighting, self._newest
        if sighting is None:
            return None
        phase, reason = phase_to_publish(newest, sighting.update), ""
        if newest is not None and phase is newest.phase is Phase.OUTCOME_UNKNOWN:
            reason = newest.phase_reason
        return WatchState(sighting.update, phase, sighting.observe_time, reason)

    def seconds_to_trace_check(self, now: datetime) -> float:
        """Until a poll can decide whether EKS got an unanswered cancel."""
        newest, sighting = self._attempted, self.sighting
        if newest is None or sighting is None or newest.phase is not Phase.OUTCOME_UNKNOWN or self.failure:
            return math.inf
        check_from = phases.no_trace_from(newest)
        if sighting.is_timed and sighting.observe_time >= check_from:
            return math.inf
        return (check_from - now).total_seconds()

    @property
    def _attempted(self) -> Cancellation | None:
        """The newest cancellation, unless its cancel may be in flight."""
        newest = self._newest
        if newest is None or (newest.outcome is None and newest.intent != self._ended_attempt):
            return None
        return newest


def phase_to_publish(newest: Cancellation | None, update: Update) -> Phase | None:
    """The phase by the newest cancellation and the update as now seen: the recorded phase would disagree with
    the update while the ledger cannot be written.
    """
    if newest is not None:
        return phases.phase_of(newest.outcome, update)
    return phases.phase_of_update(update)
