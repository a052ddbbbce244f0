"""The known state of one update, and the records that the ledger is owed; pure."""

from __future__ import annotations

import math
from datetime import datetime

from eksgateway import phases
from eksgateway.eks.shared_reads import SeenUpdate
from eksgateway.errors import GatewayError
from eksgateway.ledger.protocol import CancellationSummary
from eksgateway.model import Cancellation, Intent, Observation, Phase
from eksgateway.watch.sighting import Sighting, latest_of, sighting_in_record
from eksgateway.watch.state import WatchState, phase_to_publish, reason_to_publish


class TrackedUpdate:
    """The latest sighting, the newest cancellation, and what is not recorded yet.

    ``version`` rises with every change of the update and every cancellation that is followed. The
    ledger is owed an observation until it was asked at this version.
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
        """Apply a cancellation's record; ``began`` is as in ``sighting_in_record``."""
        newest = self._newest
        if newest is None or newest.id == cancellation.id or newest.intent.time <= cancellation.intent.time:
            self._newest, self._ended_attempt = cancellation, cancellation.intent
        self.pending = self.pending or not cancellation.settled
        self.sighting = latest_of(self.sighting, sighting_in_record(cancellation, now, began))
        self.version += 1

    def see(self, seen: SeenUpdate, now: float) -> bool:
        """Apply a read; return whether it changed a known update."""
        self.failure = self._missing_since = None
        before = self.sighting
        self.sighting = latest_of(before, Sighting(seen.update, seen.observe_time, seen.stamp, now))
        changed = before is None or before.update != self.sighting.update
        self.version += changed
        return changed and before is not None

    def fail(self, error: GatewayError) -> None:
        """Note a read that failed; give up if none ever succeeded."""
        self.failure = error
        if self.sighting is None:
            self.given_up = True

    def missing_for(self, now: float) -> float:
        """Return for how many seconds EKS has not known the update."""
        if self._missing_since is None:
            self._missing_since = now
        return now - self._missing_since

    def give_up(self, version: int) -> None:
        """Follow no longer, unless a cancellation came after this version."""
        self.given_up = version == self.version

    def confirm(self, version: int, known: CancellationSummary) -> None:
        """Apply the ledger's answer to ``observation_to_record`` at this version."""
        self._recorded_version = version
        if version == self.version:  # else a cancellation came meanwhile, and the ledger is asked again
            self._newest, self.pending = known.newest, known.pending

    def is_over(self, *, watched: bool) -> bool:
        """Whether no further poll is needed."""
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
        """Return the observation to record now; one without a change asks the ledger for an outcome."""
        sighting, newest = self.sighting, self._newest
        if sighting is None or not sighting.is_timed:
            return None
        note = self._note(sighting)
        news = newest is not None and (newest.outcome is None or note not in ("", newest.phase_reason))
        if self._recorded_version == self.version and not news:
            return None
        return Observation(sighting.observe_time, sighting.update, note)

    @property
    def state(self) -> WatchState | None:
        """The state to publish; None before the first sighting."""
        if self.sighting is None:
            return None
        phase = phase_to_publish(self._newest, self.sighting.update)
        reason = reason_to_publish(self._newest, phase)
        return WatchState(self.sighting.update, phase, self.sighting.observe_time, reason)

    def seconds_to_trace_check(self, now: datetime) -> float:
        """Return the seconds until a poll can decide whether EKS got an unanswered cancel."""
        newest, sighting = self._attempted, self.sighting
        if newest is None or sighting is None or newest.phase is not Phase.OUTCOME_UNKNOWN or self.failure:
            return math.inf
        check_from = phases.no_trace_from(newest)
        if sighting.is_timed and sighting.observe_time >= check_from:
            return math.inf
        return (check_from - now).total_seconds()

    def _note(self, sighting: Sighting) -> str:
        newest = self._attempted
        if newest is None or not phases.has_no_trace(newest, sighting.update, sighting.observe_time):
            return ""
        return phases.NO_TRACE

    @property
    def _attempted(self) -> Cancellation | None:
        """The newest cancellation, unless its cancel may be in flight (the ledger shows its intent)."""
        newest = self._newest
        if newest is None or (newest.outcome is None and newest.intent != self._ended_attempt):
            return None
        return newest
