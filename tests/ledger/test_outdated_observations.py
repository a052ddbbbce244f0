"""An observation from before the newest event of a record counts only if the update is further along.

Another replica may have looked before a cancel, and written it down after.
"""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from eksgateway.ledger.codec import encode, format_time
from eksgateway.ledger.hash_chain import GENESIS, EventKind, link
from eksgateway.ledger.projection import CancellationRecord, fold
from eksgateway.ledger.sql_ledger import SqlLedger
from eksgateway.model import Observation, Outcome, Phase, Update
from support.records import at, intent, observation, outcome, ref, update

FAILED = update(cancellation="Failed")
PENDING = update(cancellation="Pending")
BEFORE = datetime(2020, 1, 1, tzinfo=UTC)


def record_of(seen: Update) -> CancellationRecord:
    """A cancel that EKS answered with ``seen``, committed at the time 10."""
    record, head = None, GENESIS
    bodies = ((EventKind.INTENT, intent()), (EventKind.OUTCOME, outcome(update=seen, time=at(-60))))
    for kind, body in bodies:
        event = link(head, format_time(at(10)), kind, "cancellation-1", encode(body))
        record, head = fold(record, event), event.checkpoint
    assert record is not None
    return record


@pytest.mark.parametrize(
    ("known", "seen", "counts"),
    [
        (update("Cancelling"), update(), False),
        (update("Cancelling"), FAILED, False),
        (update("Cancelling"), update("Cancelled"), True),
        (update("Cancelling"), update("Successful"), True),
        (update("Cancelling"), update("Paused"), False),
        (PENDING, update("Cancelling"), True),
        (PENDING, update(), False),
        (PENDING, FAILED, False),
        (update(), PENDING, True),
    ],
    ids=lambda value: "" if isinstance(value, bool) else f"{value.status}-{value.cancellation is not None}",
)
def test_an_outdated_observation_counts_if_the_update_is_further_along(
    known: Update,
    seen: Update,
    counts: bool,
) -> None:
    """A newer one counts if it differs."""
    record = record_of(known)
    assert record.is_changed_by(Observation(at(9), seen)) == counts
    assert record.is_changed_by(Observation(at(10), seen))


@pytest.mark.parametrize("note", ["", "EKS never got it."])
def test_an_outdated_observation_of_the_known_state_changes_nothing(note: str) -> None:
    assert not record_of(update("Cancelling")).is_changed_by(Observation(at(9), update("Cancelling"), note))


def test_an_outdated_end_of_following_does_not_count() -> None:
    """Another replica has seen the update since."""
    assert not record_of(update("Cancelling")).is_changed_by(Observation(at(9), None, "lost"))
    assert record_of(update("Cancelling")).is_changed_by(Observation(at(10), None, "lost"))


async def test_a_look_from_before_the_cancel_does_not_undo_its_answer(ledger: SqlLedger) -> None:
    """The next look is recorded, whatever it shows."""
    await ledger.commit_intent(intent())
    looked_at = datetime.now(UTC)
    answer = Outcome(outcome().kind, looked_at, update("Cancelling"))
    await ledger.record_outcome("cancellation-1", answer)
    for _ in range(2):  # it takes no write
        known = await ledger.record_observation(ref(), Observation(looked_at, update()))
        assert known.newest is not None
        assert (known.newest.phase, known.pending, known.outdated) == (Phase.CANCELLING, True, True)
    known = await ledger.record_observation(ref(), observation(FAILED))
    assert known.newest is not None
    assert (known.newest.phase, known.outdated) == (Phase.CANCELLATION_FAILED, False)


async def test_an_outdated_end_settles_a_cancellation(ledger: SqlLedger) -> None:
    await ledger.commit_intent(intent())
    await ledger.record_outcome("cancellation-1", outcome(update=update("Cancelling")))
    known = await ledger.record_observation(ref(), Observation(BEFORE, update("Cancelled")))
    assert known.newest is not None
    assert (known.newest.phase, known.pending, known.outdated) == (Phase.CANCELLED, False, False)


async def test_of_two_looks_the_later_one_stands_whenever_it_is_written(ledger: SqlLedger) -> None:
    """The time of an observation is that of its look, not of its event."""
    await ledger.commit_intent(intent())
    await ledger.record_observation(ref(), observation(update("Cancelling"), seconds=5))
    known = await ledger.record_observation(ref(), observation(FAILED, seconds=6))
    assert known.newest is not None
    assert (known.newest.phase, known.outdated) == (Phase.CANCELLATION_FAILED, False)
    known = await ledger.record_observation(ref(), observation(update(), seconds=5.5))
    assert known.newest is not None
    assert (known.newest.phase, known.outdated) == (Phase.CANCELLATION_FAILED, True)
