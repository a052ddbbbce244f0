"""Cancellations are followed until they are settled, and EKS's answers are recorded."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest

from eksgateway.errors import EksNotFound, EksThrottled, EksUnavailable, LedgerUnavailable, Overloaded
from eksgateway.model import OutcomeKind
from eksgateway.phases import NO_TRACE
from eksgateway.watch.events import WatchKind
from support.watching import START, Stage, a_cancellation, an_update

ASKED = an_update(cancellation="InProgress")
CANCELLING = an_update("Cancelling", "InProgress")
CANCELLED = an_update("Cancelled", "Successful")


async def test_unwatched_cancellation_is_polled_at_once_and_every_30_s(stage: Stage) -> None:
    """Until its final state is recorded; this one's record has no time to compare polls with."""
    stage.reads.answer = CANCELLING
    await stage.commit(a_cancellation(update=ASKED))
    assert stage.reads.calls == [stage.clock.monotonic()]
    await stage.clock.advance(300)
    rests = [after - before for before, after in pairwise(stage.reads.calls)]
    assert len(rests) >= 9
    assert all(27 <= rest <= 33 for rest in rests)
    stage.reads.answer = CANCELLED
    await stage.clock.advance(33)
    assert stage.record.statuses == ["Cancelling", "Cancelled"]
    assert stage.record.held[0].settled
    assert stage.watches.pollers == 0


async def test_answer_of_a_cancel_counts_as_a_poll(stage: Stage) -> None:
    """The next poll comes after the usual interval, with jitter."""
    await stage.commit(a_cancellation(update=CANCELLING), began=stage.clock.monotonic())
    begun = stage.clock.monotonic()
    stage.reads.answer = CANCELLED
    await stage.clock.advance(26)
    assert stage.reads.calls == []
    await stage.clock.advance(7)
    (look,) = stage.reads.calls
    assert look - begun != 30  # or all that are cancelled at once would be looked at at once
    assert stage.record.statuses == ["Cancelled"]
    assert stage.record.held[0].settled
    assert stage.watches.pollers == 0


async def test_answer_of_a_cancel_at_another_replica_counts_as_a_poll(stage: Stage) -> None:
    """One without an answer is polled at once."""
    stage.watches.take_up(a_cancellation(update=CANCELLING), pending=True)
    await stage.clock.advance(26)
    assert stage.reads.calls == []
    stage.watches.take_up(a_cancellation(OutcomeKind.UNKNOWN), pending=True)
    await stage.clock.advance()
    assert len(stage.reads.calls) == 1


async def test_settled_cancellation_of_another_replica_starts_no_poller(stage: Stage) -> None:
    stage.watches.take_up(a_cancellation(OutcomeKind.REFUSED), pending=False)
    assert stage.watches.pollers == 0


async def test_young_answer_of_a_cancel_is_a_first_state(stage: Stage) -> None:
    """A watcher that comes within the interval waits for no read."""
    await stage.commit(a_cancellation(update=CANCELLING), began=stage.clock.monotonic())
    await stage.clock.advance(4)
    stage.reads.answer = CANCELLED
    stage.reads.open.clear()
    async with stage.watching() as early:
        assert early.received == [("SNAPSHOT", "Cancelling", "CANCELLING", 1)]
        stage.reads.open.set()
        await stage.clock.advance(2)
        assert early.statuses == ["Cancelling", "Cancelled"]


async def test_old_answer_of_a_cancel_is_no_first_state(stage: Stage) -> None:
    """A watcher that comes after the interval waits for a read."""
    await stage.commit(a_cancellation(update=CANCELLING), began=stage.clock.monotonic())
    await stage.clock.advance(6)
    stage.reads.answer = CANCELLED
    async with stage.watching() as late:
        assert set(late.statuses) == {"Cancelled"}


async def test_answer_of_a_cancel_is_published_at_once(stage: Stage) -> None:
    """Watchers wait for no poll."""
    async with stage.watching() as stream:
        stage.reads.open.clear()
        await stage.clock.advance(2)
        await stage.commit(a_cancellation(update=CANCELLING))
        assert stream.received[-1] == ("CHANGE", "Cancelling", "CANCELLING", 2)
        assert len(stage.reads.calls) == 2
        stage.reads.answer = CANCELLING
        stage.reads.open.set()
        await stage.clock.advance()


async def test_poll_from_before_a_cancel_does_not_undo_its_state(stage: Stage) -> None:
    """A slow describe does not turn Cancelling into InProgress."""
    async with stage.watching() as stream:
        stage.reads.open.clear()
        await stage.clock.advance(6)
        await stage.commit(a_cancellation(update=CANCELLING))
        stage.reads.answer = CANCELLING
        stage.reads.open.set()
        await stage.clock.advance(6)
        assert stream.statuses == ["InProgress", "Cancelling"]
        assert stage.record.statuses == ["InProgress", "Cancelling"]


async def test_poll_after_a_cancel_may_go_back_to_in_progress(stage: Stage) -> None:
    """EKS goes back when a cancellation fails; that is published and recorded."""
    async with stage.watching() as stream:
        stage.reads.answer = an_update(cancellation="Failed")
        await stage.commit(a_cancellation(update=CANCELLING))
        await stage.clock.advance(2)
        assert stream.received[1:] == [
            ("CHANGE", "Cancelling", "CANCELLING", 2),
            ("CHANGE", "InProgress", "CANCELLATION_FAILED", 3),
        ]
        assert stage.record.held[0].phase == "CANCELLATION_FAILED"


async def test_repeated_follow_is_limited_to_the_shortest_interval(stage: Stage) -> None:
    """One poller, and at most five reads per ``poll_s``."""
    stage.reads.answer = CANCELLING
    one = a_cancellation(update=CANCELLING)
    stage.record.held.append(one)
    for _ in range(100):
        stage.watches.follow(one)
        await stage.clock.advance(0.1)
    assert stage.watches.pollers == 1
    assert len(stage.reads.calls) <= 11


@pytest.mark.parametrize("kind", [OutcomeKind.REFUSED, OutcomeKind.NOT_FORWARDED])
async def test_settled_cancellation_is_published_and_not_followed(stage: Stage, kind: OutcomeKind) -> None:
    """It starts no poller without watchers."""
    settled = a_cancellation(kind)
    await stage.commit(settled)
    assert stage.watches.pollers == 0
    async with stage.watching() as stream:
        assert stream.received == [("SNAPSHOT", "InProgress", settled.phase, 1)]
    await stage.clock.advance()
    assert stage.watches.pollers == 0


async def test_settled_cancellation_leaves_an_older_one_pending(stage: Stage) -> None:
    await stage.commit(a_cancellation(update=ASKED))
    stage.reads.answer = EksUnavailable()  # so that the ledger is not asked either
    await stage.commit(a_cancellation(OutcomeKind.REFUSED, number=2))
    await stage.clock.advance(100)
    assert stage.watches.pollers == 1


async def test_phase_is_that_of_the_newest_cancellation(stage: Stage) -> None:
    """An older one that is followed later does not replace it."""
    older = a_cancellation(OutcomeKind.REFUSED, number=1)
    newer = a_cancellation(update=ASKED, number=2, time=START + timedelta(seconds=1))
    stage.reads.answer = ASKED
    async with stage.watching() as stream:
        stage.record.held.append(older)
        await stage.commit(newer)
        stage.watches.follow(older)
        await stage.clock.advance(6)
        assert stream.received[-1][2] == "REQUESTED"
        assert "REJECTED" not in [one.phase for one in stream.events]


async def test_pending_cancellation_from_the_ledger_is_followed(stage: Stage) -> None:
    """The poller goes on when the watcher that started it has left."""
    stage.record.held.append(a_cancellation(update=ASKED))
    stage.reads.answer = CANCELLING
    async with stage.watching() as stream:
        assert stream.received == [("SNAPSHOT", "Cancelling", "CANCELLING", 1)]
    await stage.clock.advance()
    assert stage.watches.pollers == 1
    stage.reads.answer = CANCELLED
    await stage.clock.advance(34)
    assert stage.record.statuses[-1] == "Cancelled"
    assert stage.watches.pollers == 0


@pytest.mark.parametrize("stays", [True, False], ids=["watcher stays", "watcher leaves"])
async def test_ledger_answer_from_before_a_cancel_is_dropped(stage: Stage, stays: bool) -> None:
    """A cancellation that is followed while the ledger answers stays pending."""
    stage.record.open.clear()
    async with stage.watching() as stream:
        await stage.commit(a_cancellation())
        if stays:
            stage.record.open.set()
            await stage.clock.advance(6)
    stage.record.open.set()
    await stage.clock.advance(40)
    assert stream.received == [("SNAPSHOT", "InProgress", "REQUESTED", 1)]
    assert stage.watches.pollers == 1


async def test_poll_without_change_records_nothing(stage: Stage) -> None:
    """Only a change, a new cancellation or a failed record leads to a record."""
    async with stage.watching():
        await stage.clock.advance(60)
        assert stage.record.attempts == 1
        stage.reads.answer = CANCELLING
        await stage.commit(a_cancellation(update=CANCELLING))
        await stage.clock.advance(60)
        assert stage.record.attempts == 2


@pytest.mark.parametrize("watched", [True, False], ids=["watched", "unwatched"])
async def test_unanswered_cancel_without_a_trace_is_noted_once(stage: Stage, watched: bool) -> None:
    """Ten seconds after the attempt, watched or not; the note goes when a cancellation is seen."""
    async with AsyncExitStack() as stack:
        unknown = replace(a_cancellation(OutcomeKind.UNKNOWN), phase_reason="unanswered")
        await stage.commit(unknown)
        stream = await stack.enter_async_context(stage.watching()) if watched else None
        await stage.clock.advance(9)
        assert [each.note for each in stage.record.observations] == [""]
        await stage.clock.advance(3)
        assert [each.note for each in stage.record.observations] == ["", NO_TRACE]
        looks = len(stage.reads.calls)
        await stage.clock.advance(60)
        assert len(stage.record.observations) == 2
        assert len(stage.reads.calls) > looks
        stage.reads.answer = CANCELLING
        await stage.clock.advance(33)
        assert [each.note for each in stage.record.observations] == ["", NO_TRACE, ""]
    if stream is not None:
        phases = [
            (each.phase, each.state.reason) for each in stream.events if each.kind is not WatchKind.HEARTBEAT
        ]
        assert phases == [("OUTCOME_UNKNOWN", ""), ("OUTCOME_UNKNOWN", NO_TRACE), ("CANCELLING", "")]


async def test_cancel_in_flight_is_not_noted_as_without_a_trace(stage: Stage) -> None:
    """The ledger shows an intent before its attempt ends; the ten seconds count from its end."""
    asked = replace(a_cancellation(None), forward_time=None)
    async with stage.watching():
        stage.record.held.append(asked)
        stage.reads.answer = an_update("Odd")
        await stage.clock.advance(6)
        stage.reads.answer = an_update()
        await stage.clock.advance(25)
        assert {each.note for each in stage.record.observations} == {""}
        stage.watches.follow(asked)  # as after a start, or when the outcome could not be recorded
        await stage.clock.advance(6)
        assert stage.record.observations[-1].note == NO_TRACE


async def test_failed_polls_of_an_unanswered_cancel_keep_the_usual_interval(stage: Stage) -> None:
    await stage.commit(a_cancellation(OutcomeKind.UNKNOWN))
    stage.reads.answer = EksUnavailable()
    await stage.clock.advance(300)
    assert len(stage.reads.calls) <= 13
    assert {each.note for each in stage.record.observations} == {""}


async def test_late_outcome_is_learnt_from_the_ledger(stage: Stage) -> None:
    """While the newest cancellation has no outcome, each poll asks the ledger for it."""
    unheard = a_cancellation(None)
    await stage.commit(unheard)
    async with stage.watching() as stream:
        assert stream.received[-1][2] == "OUTCOME_UNKNOWN"
        stage.record.held = [replace(unheard, outcome=a_cancellation().outcome)]
        await stage.clock.advance(6)
        assert stream.received[-1] == ("CHANGE", "InProgress", "REQUESTED", 2)


async def test_state_is_published_while_the_ledger_fails(stage: Stage) -> None:
    """It is recorded when the ledger works again."""
    stage.record.fails = LedgerUnavailable()
    stage.reads.answer = CANCELLING
    async with stage.watching() as stream:
        await stage.commit(a_cancellation(update=ASKED))
        assert stream.received[-1][1:3] == ("Cancelling", "CANCELLING")
        await stage.clock.advance(20)
        assert stage.record.attempts >= 4
        stage.record.fails = None
        await stage.clock.advance(6)
        assert stage.record.statuses == ["Cancelling"]
        await stage.clock.advance(20)
        assert stage.record.statuses == ["Cancelling"]


@pytest.mark.parametrize("fault", [LedgerUnavailable(), ZeroDivisionError()], ids=["ledger", "bug"])
async def test_final_state_is_published_at_once_and_recorded_later(stage: Stage, fault: Exception) -> None:
    """The poller goes on without reading until the pending cancellation is recorded."""
    await stage.commit(a_cancellation(update=ASKED))
    async with stage.watching() as stream:
        stage.record.fails = fault
        stage.reads.answer = CANCELLED
        await stage.clock.advance(6)
        assert stream.received[-1][:3] == ("FINAL", "Cancelled", "CANCELLED")
        assert stream.ended
    reads = len(stage.reads.calls)
    await stage.clock.advance(100)
    assert stage.watches.pollers == 1
    stage.record.fails = None
    await stage.clock.advance(34)
    assert stage.record.statuses[-1] == "Cancelled"
    assert stage.record.held[0].settled
    assert stage.watches.pollers == 0
    assert len(stage.reads.calls) == reads


async def test_watch_without_cancellation_ends_while_the_ledger_fails(stage: Stage) -> None:
    stage.record.fails = LedgerUnavailable()
    stage.reads.answer = CANCELLED
    async with stage.watching() as stream:
        assert [one.kind for one in stream.events] == ["SNAPSHOT", "FINAL"]
    assert stage.watches.pollers == 0


@pytest.mark.parametrize("error", [EksUnavailable(), EksThrottled(), EksNotFound()], ids=lambda e: e.reason)
async def test_first_read_that_fails_ends_the_watch(stage: Stage, error: Exception) -> None:
    """Watchers get EKS's own error, and the poller ends."""
    stage.reads.answer = error
    async with stage.watching() as stream:
        assert type(stream.error) is type(error)
        assert stage.watches.pollers == 0


async def test_failed_poll_keeps_the_stream_open(stage: Stage) -> None:
    """Watchers keep the known state, and new ones get it, with its old time."""
    async with stage.watching() as stream:
        stage.reads.answer = EksUnavailable()
        await stage.clock.advance(30)
        async with stage.watching() as late:
            assert late.statuses == ["InProgress"]
            assert late.events[0].observe_time == START
        assert stream.error is None
        stage.reads.answer = CANCELLED
        await stage.clock.advance(6)
        assert stream.statuses == ["InProgress", "Cancelled"]


@pytest.mark.parametrize("error", [EksThrottled(), Overloaded(), EksUnavailable()], ids=lambda e: e.reason)
async def test_failed_poll_is_repeated_after_the_usual_interval(stage: Stage, error: Exception) -> None:
    """How many calls EKS gets then is decided by the budget alone."""
    async with stage.watching():
        stage.reads.answer = error
        await stage.clock.advance(60)
        rests = [after - before for before, after in pairwise(stage.reads.calls)]
        assert rests == pytest.approx([5] * len(rests), rel=0.1001)


async def test_update_missing_for_ten_minutes_is_given_up(stage: Stage) -> None:
    """That is recorded, and watchers get EksNotFound."""
    stage.reads.answer = ASKED
    await stage.commit(a_cancellation(update=ASKED))
    async with stage.watching() as stream:
        stage.reads.answer = EksNotFound()
        await stage.clock.advance(595)
        assert stream.error is None
        assert stage.record.held[0].settled is False
        await stage.clock.advance(20)
        assert isinstance(stream.error, EksNotFound)
        assert stage.record.statuses == ["InProgress", None]
        assert stage.record.held[0].phase_reason == "EKS has not known this update for 10 minutes."
        assert stage.watches.pollers == 0


async def test_missing_time_restarts_when_eks_knows_the_update(stage: Stage) -> None:
    async with stage.watching() as stream:
        for _ in range(3):
            stage.reads.answer = EksNotFound()
            await stage.clock.advance(400)
            stage.reads.answer = an_update()
            await stage.clock.advance(6)
        assert stream.error is None
        assert stage.record.statuses == ["InProgress"]


async def test_missing_update_is_followed_until_that_is_recorded(stage: Stage) -> None:
    stage.reads.answer = ASKED
    await stage.commit(a_cancellation(update=ASKED))
    stage.reads.answer = EksNotFound()
    stage.record.fails = LedgerUnavailable()
    await stage.clock.advance(700)
    assert stage.watches.pollers == 1
    stage.record.fails = None
    await stage.clock.advance(34)
    assert stage.record.statuses[-1] is None
    assert stage.watches.pollers == 0


async def test_cancellation_during_giving_up_is_followed(stage: Stage) -> None:
    stage.reads.answer = ASKED
    await stage.commit(a_cancellation(update=ASKED))
    stage.reads.answer = EksNotFound()
    stage.record.open.clear()
    await stage.clock.advance(700)
    assert stage.record.statuses[-1] is None
    stage.reads.answer = CANCELLING
    await stage.commit(a_cancellation(update=CANCELLING, number=2))
    stage.record.open.set()
    await stage.clock.advance(34)
    assert stage.record.statuses[-1] == "Cancelling"
    assert stage.watches.pollers == 1
