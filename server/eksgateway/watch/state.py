"""The state of an update as watchers get it; pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from eksgateway import phases
from eksgateway.ledger import codec
from eksgateway.model import Cancellation, Phase, Update


@dataclass(frozen=True)  # no slots: the digest is cached for all watchers of this state
class WatchState:
    """An update, its phase and, for OUTCOME_UNKNOWN, a reason that explains the phase."""

    update: Update
    phase: Phase | None
    observe_time: datetime
    reason: str = ""

    @property
    def final(self) -> bool:
        return self.update.final

    @cached_property
    def digest(self) -> bytes:
        """16 bytes, equal in every process for equal content."""
        content = codec.encode(self.content if self.reason else self.content[:2])
        return hashlib.sha256(content.encode()).digest()[:16]

    @property
    def content(self) -> tuple[Update, Phase | None, str]:
        """Everything but the time."""
        return self.update, self.phase, self.reason

    def same_as(self, other: WatchState | None) -> bool:
        """Whether only the times differ, which is no change."""
        return other is not None and self.content == other.content


def phase_to_publish(newest: Cancellation | None, update: Update) -> Phase | None:
    """Return the newest cancellation's phase, else the phase that the update shows by itself.

    Derived from the outcome and the update as now seen, so that update and phase agree also while the
    ledger cannot be written.
    """
    if newest is not None:
        return phases.phase_of(newest.outcome, update)
    return phases.phase_of_update(update)


def reason_to_publish(newest: Cancellation | None, phase: Phase | None) -> str:
    """Return the recorded reason of OUTCOME_UNKNOWN; other phases need none."""
    if newest is not None and phase is newest.phase is Phase.OUTCOME_UNKNOWN:
        return newest.phase_reason
    return ""
