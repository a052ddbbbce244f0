"""The interface of the ledger."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from eksgateway.model import Cancellation, ClusterRef, Denial, Intent, Observation, Outcome, UpdateRef


@dataclass(frozen=True, slots=True)
class ReadScope:
    """The cancellations that one caller may read: its own, and those of these clusters."""

    caller_id: str
    clusters: tuple[ClusterRef, ...]


@dataclass(frozen=True, slots=True)
class HistoryFilter:
    """An empty filter lists all."""

    cluster: ClusterRef | None = None
    caller_id: str = ""
    scope: ReadScope | None = None


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """``before`` continues behind the last one, and ``following`` is the next one; empty at the end."""

    cancellations: tuple[Cancellation, ...]
    before: str
    following: Cancellation | None = None


@dataclass(frozen=True, slots=True)
class CancellationSummary:
    """An update's newest cancellation, and whether any is not settled.

    ``outdated``: one of these has another state of the update, which is newer than the observation.
    """

    newest: Cancellation | None
    pending: bool
    outdated: bool = False


@dataclass(frozen=True, slots=True)
class Recorded:
    """A cancellation as recorded, and the number of its newest event.

    ``elsewhere``: the newest intent is of another replica, or of an earlier process. ``in_flight_s`` is for
    how long that replica may still forward it, in seconds. It is 0 once there is an outcome.
    """

    cancellation: Cancellation
    latest: int
    elsewhere: bool = False
    in_flight_s: float = 0.0


class Ledger(Protocol):
    """The append-only record. A method that writes returns when the record is durable.

    Every method raises LedgerUnavailable when the ledger does not answer within its deadline.
    """

    async def commit_intent(self, intent: Intent, forward_s: float = 0) -> Cancellation:
        """This replica may forward it for ``forward_s``, from now on. Other replicas see that as in flight.

        Raises RequestIdReused, with the other ``cancellation_id``, when (caller, request_id) exists already.

        After LedgerUnavailable nothing may be sent. If the commit succeeds all the same, the ledger
        itself closes that intent as NOT_FORWARDED.
        """

    async def renew_intent(self, intent: Intent, forward_s: float = 0) -> Cancellation:
        """Record a NOT_FORWARDED intent anew: with the same cancellation_id, request and token, and the
        new decision and its facts. ``forward_s`` and LedgerUnavailable are as in ``commit_intent``.

        Raises DecisionStale when it is not NOT_FORWARDED any more.
        """

    async def record_outcome(self, cancellation_id: str, outcome: Outcome) -> Cancellation:
        """Raises OutcomeUnrecorded instead of LedgerUnavailable; the outcome is then written when the
        database is back.
        """

    async def record_observation(self, ref: UpdateRef, observation: Observation) -> CancellationSummary:
        """Record a later state of an update for its cancellations that are not settled.

        An observation without an update ends the following: the phase stays, and ``observation.note`` is
        its reason. One that cannot be written is kept, and written before the next one of its update. One
        that is older than the record counts only if the update is further along, or ended.
        """

    def record_denial(self, denial: Denial) -> None:
        """Queue a denied cancel for the denial log. Never waits, never fails.

        Denials beyond the queue's limit are lost, and their number is recorded later.
        """

    async def get(self, cancellation_id: str) -> Cancellation | None: ...

    async def find(self, caller_id: str, request_id: str) -> Cancellation | None: ...

    async def look_up(self, caller_id: str, request_id: str) -> Recorded | None:
        """``find``, with what is known of the forward. An id that cannot be recorded yet takes no read."""

    async def read(self, cancellation_ids: Collection[str]) -> tuple[Recorded, ...]:
        """Those that exist."""

    async def clusters(self, caller_id: str) -> tuple[ClusterRef, ...]:
        """The clusters with cancellations of this caller; of all callers when ``caller_id`` is empty."""

    async def history(self, which: HistoryFilter, limit: int, before: str) -> HistoryPage:
        """Newest first, ``limit`` a page."""

    async def pending(self) -> tuple[Recorded, ...]:
        """Those that are not settled, oldest first."""

    async def pending_ids(self) -> dict[str, int]:
        """The ids of those, and the number of each one's newest event."""

    async def check(self) -> None:
        """Return when the ledger can read and write."""

    async def close(self) -> None:
        """Write the queued records, and end the writer."""
