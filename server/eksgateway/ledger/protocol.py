"""What the gateway writes down, and asks of what it wrote."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from eksgateway.model import (
    Cancellation,
    ClusterRef,
    Denial,
    Intent,
    Observation,
    Outcome,
    UpdateRef,
)


@dataclass(frozen=True, slots=True)
class ReadScope:
    """What one caller may read: its own cancellations, and those of some clusters."""

    caller_id: str
    clusters: tuple[ClusterRef, ...]


@dataclass(frozen=True, slots=True)
class HistoryFilter:
    """Which cancellations to list; an empty filter lists all."""

    cluster: ClusterRef | None = None
    caller_id: str = ""
    scope: ReadScope | None = None


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """Cancellations, newest first. ``before`` continues after the last one (empty at the end)."""

    cancellations: tuple[Cancellation, ...]
    before: str


@dataclass(frozen=True, slots=True)
class CancellationSummary:
    """What is known of an update's cancellations: the newest, and whether any is not settled."""

    newest: Cancellation | None
    pending: bool


class Ledger(Protocol):
    """Append-only record of intents and outcomes. Writing returns only when it is durable.

    Every method raises LedgerUnavailable when the ledger cannot answer within its deadline.
    """

    async def commit_intent(self, intent: Intent) -> Cancellation:
        """Record an intent. Raises RequestIdReused when (caller, request_id) exists already.

        After LedgerUnavailable nothing may be sent: should the commit succeed all the same, the
        ledger itself closes that intent as NOT_FORWARDED.
        """

    async def renew_intent(self, intent: Intent) -> Cancellation:
        """Record anew an intent that was NOT_FORWARDED: the same cancellation_id, request and token,
        with the new decision and the facts it was made on. The same promise as commit_intent.
        """

    async def record_outcome(self, cancellation_id: str, outcome: Outcome) -> Cancellation:
        """Record what became of the forward. Raises OutcomeUnrecorded instead of LedgerUnavailable;
        the outcome is then kept and written when the ledger is back.
        """

    async def record_observation(self, ref: UpdateRef, observation: Observation) -> CancellationSummary:
        """Record what EKS said later, for every cancellation of this update that is not settled.

        An observation that changes nothing appends nothing and takes no write. Without an update
        (``observation.note`` says why) following ends: the phase stays, the note is its reason.
        One that cannot be written is kept, and written before the next one of its update.
        """

    def record_denial(self, denial: Denial) -> None:
        """Queue a denied cancel for the decision log: bounded batches, never waits, never fails.

        While batches cannot be written, readiness is off, and the number lost is written down
        when the ledger is back.
        """

    async def get(self, cancellation_id: str) -> Cancellation | None:
        """A cancellation by id."""

    async def find(self, caller_id: str, request_id: str) -> Cancellation | None:
        """A caller's own cancellation by its request_id."""

    async def clusters(self, caller_id: str) -> tuple[ClusterRef, ...]:
        """Every cluster with a cancellation of this caller's, or of anybody's when it is empty."""

    async def history(self, which: HistoryFilter, limit: int, before: str) -> HistoryPage:
        """Cancellations, newest first, ``limit`` a page."""

    async def pending(self) -> tuple[Cancellation, ...]:
        """Every cancellation that is not settled, oldest first: what to follow after a start."""

    async def check(self) -> None:
        """Return when the ledger can read and write (for readiness)."""

    async def close(self) -> None:
        """Write what is queued, and end the writer."""
