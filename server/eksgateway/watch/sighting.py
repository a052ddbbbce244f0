"""An update as EKS reported it, and which of two such reports is newer; pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import datetime

from eksgateway import phases
from eksgateway.model import Cancellation, Update


@dataclass(frozen=True, slots=True)
class Sighting:
    """An update as EKS reported it in a call between ``began`` and ``ended`` (monotonic)."""

    update: Update
    observe_time: datetime
    began: float
    ended: float

    @property
    def is_timed(self) -> bool:
        """Whether it is an answer to a call of this process; a record may be from any time before."""
        return self.began > -math.inf


def latest_of(known: Sighting | None, new: Sighting) -> Sighting:
    """Return the sighting that stands when a new one comes in.

    Sightings come in out of order: a poll that began before a cancel may be answered after it. So:

    1. A final state is replaced only by a final one.
    2. The same state again makes the known sighting younger, never older.
    3. A call that began after the known one ended is newer, whatever its state: EKS goes back from
       Cancelling to InProgress when a cancellation fails.
    4. Otherwise the calls overlapped, and no clock orders their states. The one further along
       (``phases.rank``) stands; of two equally far, the known one. The next poll settles it by rule 3.

    Only monotonic times are compared, so a wall clock that is set changes no order.
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


def sighting_in_record(cancellation: Cancellation, ended: float, began: float | None = None) -> Sighting:
    """Return the update as a cancellation's record has it.

    ``began`` is when the CancelUpdate call began that answered with it. Without, the record may be from
    any time, and by rule 4 of ``latest_of`` it replaces only a state that is less far along.
    """
    intent = cancellation.intent
    unchanged = cancellation.update == intent.update  # then it was certainly seen before the intent
    observe_time = intent.time if unchanged else cancellation.update_time
    return Sighting(cancellation.update, observe_time, -math.inf if began is None else began, ended)
