"""What is known of one update, what watchers are told of it, and which of two reports is newer; pure."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property

from eksgateway import phases
from eksgateway.ledger import codec
from eksgateway.model import Cancellation, Phase, Update


@dataclass(frozen=True)  # without slots: the digest is kept, for all who are given this state
class WatchState:
    """What a watcher is told. Two states differ when update, phase or reason differ: see ``same_as``."""

    update: Update
    phase: Phase | None
    observe_time: datetime
    reason: str = ""  # says more about the phase; only where that is OUTCOME_UNKNOWN

    @property
    def final(self) -> bool:
        return self.update.final

    @cached_property
    def digest(self) -> bytes:
        """16 bytes, in any process equal for states that are the same."""
        told = codec.encode(self.told if self.reason else self.told[:2])
        return hashlib.sha256(told.encode()).digest()[:16]

    def same_as(self, other: WatchState | None) -> bool:
        """Equal but for the time: seeing the same again is no change."""
        return other is not None and self.told == other.told

    @property
    def told(self) -> tuple[Update, Phase | None, str]:
        """Everything but the time."""
        return self.update, self.phase, self.reason


@dataclass(frozen=True, slots=True)
class Report:
    """What EKS said about an update, at some moment between ``begun`` and ``ended`` (monotonic)."""

    update: Update
    observe_time: datetime
    begun: float
    ended: float

    @property
    def read(self) -> bool:
        """Whether EKS just said it, as opposed to a record from any time before."""
        return self.begun > -math.inf


def latest(known: Report | None, new: Report) -> Report:
    """What stands when a report comes in: what was known, or the new one.

    Reports come in out of order: a poll that began before a cancel may be answered after the
    cancel was. So:

    1. A final state is replaced by nothing that is not final.
    2. A report of the same state makes what is known younger, never older.
    3. A call that began after the known answer was in hand is newer, whatever it says: EKS may
       go back from Cancelling to InProgress when a cancellation fails.
    4. Otherwise both calls were under way at once, and no clock tells which saw the later state.
       Then the one further along (``phases.rank``) stands, and of two equally far the known one;
       the next poll, which begins after both, settles it by rule 3.

    Only monotonic times are compared, so a wall clock that jumps changes no order.
    """
    if known is None:
        return new
    if known.update.final and not new.update.final:
        return known
    if new.update == known.update:
        younger = new if new.begun >= known.begun else known
        return replace(younger, update=known.update, ended=max(new.ended, known.ended))
    if new.begun >= known.ended or phases.rank(new.update) > phases.rank(known.update):
        return new
    return known


def recorded(cancellation: Cancellation, ended: float, begun: float | None = None) -> Report:
    """What a cancellation's record says of its update, told at ``ended``: what a CancelUpdate answered that
    began then, or what was seen any time before.

    Of the latter, by rule 4 of ``latest``, it replaces only what is less far along.
    """
    intent = cancellation.intent
    unchanged = cancellation.update == intent.update  # last seen, for certain, before the intent
    seen = intent.time if unchanged else cancellation.update_time
    return Report(cancellation.update, seen, -math.inf if begun is None else begun, ended)


def published_phase(newest: Cancellation | None, update: Update) -> Phase | None:
    """The newest cancellation's phase, given the update as now seen, else what the update shows.

    Derived anew from the outcome, so that update and phase always agree, also while the ledger
    cannot be written.
    """
    if newest is not None:
        return phases.phase_of(newest.outcome, update)
    return phases.phase_of_update(update)


def published_reason(newest: Cancellation | None, phase: Phase | None) -> str:
    """How the phase is known, where that tells what to do: after a cancel that was not answered."""
    unknown = newest is not None and phase is newest.phase is Phase.OUTCOME_UNKNOWN
    return newest.phase_reason if newest is not None and unknown else ""
