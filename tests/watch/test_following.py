"""A cancellation is followed to its end, and what EKS says of it is written down."""

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


async def test_without_watchers(stage: Stage) -> None:
    """One whose state nobody timed is looked at at once, then every 30 s, until its end is written down."""
    stage.reads.says = CANCELLING
    await stage.cancelled(a_cancellation(update=ASKED))
    assert stage.reads.calls == [stage.clock.monotonic()]
    await stage.clock.advance(300)
    rests = [after - before for before, after in pairwise(stage.reads.calls)]
    assert len(rests) >= 9
    assert all(27 <= rest <= 33 for rest in rests)
    stage.reads.says = CANCELLED
    await stage.clock.advance(33)
    assert stage.record.statuses == ["Cancelling", "Cancelled"]
    assert stage.record.held[0].settled
    assert stage.watches.pollers == 0


async def test_what_a_cancel_answered_is_the_first_look(stage: Stage) -> None:
    """EKS is not asked what it has just said; its end is learnt as of any other."""
    await stage.cancelled(a_cancellation(update=CANCELLING), answered=stage.clock.monotonic())
    begun = stage.clock.monotonic()
    stage.reads.says = CANCELLED
    await stage.clock.advance(26)
    assert stage.reads.calls == []
    await stage.clock.advance(7)
    (look,) = stage.reads.calls
    assert look - begun != 30  # or all that are cancelled at once would be looked at at once
    assert stage.record.statuses == ["Cancelled"]
    assert stage.record.held[0].settled
    assert stage.watches.pollers == 0


async def test_what_a_cancel_answered_is_a_first_state_while_it_is_young(stage: Stage) -> None:
    """Who comes within the interval is told it without waiting for a read, and then what came of it."""
    await stage.cancelled(a_cancellation(update=CANCELLING), answered=stage.clock.monotonic())
    await stage.clock.advance(4)
    stage.reads.says = CANCELLED
    stage.reads.open.clear()
    async with stage.watching() as early:
        assert early.told == [("SNAPSHOT", "Cancelling", "CANCELLING", 1)]
        stage.reads.open.set()
        await stage.clock.advance(2)
        assert early.statuses == ["Cancelling", "Cancelled"]


async def test_what_a_cancel_answered_is_no_first_state_later(stage: Stage) -> None:
    """Who comes after the interval waits for a read."""
    await stage.cancelled(a_cancellation(update=CANCELLING), answered=stage.clock.monotonic())
    await stage.clock.advance(6)
    stage.reads.says = CANCELLED
    async with stage.watching() as late:
        assert set(late.statuses) == {"Cancelled"}


async def test_watchers_are_told_at_once(stage: Stage) -> None:
    """What CancelUpdate answered reaches whoever watches without waiting for a poll."""
    async with stage.watching() as stream:
        stage.reads.open.clear()
        await stage.clock.advance(2)
        await stage.cancelled(a_cancellation(update=CANCELLING))
        assert stream.told[-1] == ("CHANGE", "Cancelling", "CANCELLING", 2)
        assert len(stage.reads.calls) == 2
        stage.reads.says = CANCELLING
        stage.reads.open.set()
        await stage.clock.advance()


async def test_a_poll_that_began_before_the_cancel_takes_nothing_back(stage: Stage) -> None:
    """A slow describe from before the cancel does not turn Cancelling into InProgress."""
    async with stage.watching() as stream:
        stage.reads.open.clear()
        await stage.clock.advance(6)
        await stage.cancelled(a_cancellation(update=CANCELLING))
        stage.reads.says = CANCELLING
        stage.reads.open.set()
        await stage.clock.advance(6)
        assert stream.statuses == ["InProgress", "Cancelling"]
        assert stage.record.statuses == ["InProgress", "Cancelling"]


async def test_a_poll_after_the_cancel_is_believed(stage: Stage) -> None:
    """EKS may go back to InProgress when a cancellation fails, and that is told and recorded."""
    async with stage.watching() as stream:
        stage.reads.says = an_update(cancellation="Failed")
        await stage.cancelled(a_cancellation(update=CANCELLING))
        await stage.clock.advance(2)
        assert stream.told[1:] == [
            ("CHANGE", "Cancelling", "CANCELLING", 2),
            ("CHANGE", "InProgress", "CANCELLATION_FAILED", 3),
        ]
        assert stage.record.held[0].phase == "CANCELLATION_FAILED"


async def test_following_many_times(stage: Stage) -> None:
    """Following again and again costs at most five reads an interval, and one poller."""
    stage.reads.says = CANCELLING
    one = a_cancellation(update=CANCELLING)
    stage.record.held.append(one)
    for _ in range(100):
        stage.watches.follow(one)
        await stage.clock.advance(0.1)
    assert stage.watches.pollers == 1
    assert len(stage.reads.calls) <= 11


@pytest.mark.parametrize("kind", [OutcomeKind.REFUSED, OutcomeKind.NOT_FORWARDED])
async def test_a_settled_one_is_told_and_not_followed(stage: Stage, kind: OutcomeKind) -> None:
    """A refusal reaches those who watch, and starts no poller where nobody does."""
    settled = a_cancellation(kind)
    await stage.cancelled(settled)
    assert stage.watches.pollers == 0
    async with stage.watching() as stream:
        assert stream.told == [("SNAPSHOT", "InProgress", settled.phase, 1)]
    await stage.clock.advance()
    assert stage.watches.pollers == 0


async def test_a_settled_one_ends_no_others_following(stage: Stage) -> None:
    """A second cancel that is refused leaves the first one pending."""
    await stage.cancelled(a_cancellation(update=ASKED))
    stage.reads.says = EksUnavailable()  # so that the ledger is not asked either
    await stage.cancelled(a_cancellation(OutcomeKind.REFUSED, number=2))
    await stage.clock.advance(100)
    assert stage.watches.pollers == 1


async def test_the_newest_cancellation_gives_the_phase(stage: Stage) -> None:
    """Two cancels of one update: an older one, told late, does not show through."""
    older = a_cancellation(OutcomeKind.REFUSED, number=1)
    newer = a_cancellation(update=ASKED, number=2, time=START + timedelta(seconds=1))
    stage.reads.says = ASKED
    async with stage.watching() as stream:
        stage.record.held.append(older)
        await stage.cancelled(newer)
        stage.watches.follow(older)
        await stage.clock.advance(6)
        assert stream.told[-1][2] == "REQUESTED"
        assert "REJECTED" not in [one.phase for one in stream.events]


async def test_a_pending_one_is_learnt_from_the_ledger(stage: Stage) -> None:
    """A watcher's poller that meets a pending cancellation goes on when the watcher has left."""
    stage.record.held.append(a_cancellation(update=ASKED))
    stage.reads.says = CANCELLING
    async with stage.watching() as stream:
        assert stream.told == [("SNAPSHOT", "Cancelling", "CANCELLING", 1)]
    await stage.clock.advance()
    assert stage.watches.pollers == 1
    stage.reads.says = CANCELLED
    await stage.clock.advance(34)
    assert stage.record.statuses[-1] == "Cancelled"
    assert stage.watches.pollers == 0


@pytest.mark.parametrize("stays", [True, False], ids=["watcher stays", "watcher leaves"])
async def test_an_answer_of_the_ledger_from_before_a_cancel_is_dropped(stage: Stage, stays: bool) -> None:
    """A cancellation that is followed while the ledger answers is not forgotten again."""
    stage.record.open.clear()
    async with stage.watching() as stream:
        await stage.cancelled(a_cancellation())
        if stays:
            stage.record.open.set()
            await stage.clock.advance(6)
    stage.record.open.set()
    await stage.clock.advance(40)
    assert stream.told == [("SNAPSHOT", "InProgress", "REQUESTED", 1)]
    assert stage.watches.pollers == 1


async def test_a_poll_without_news_asks_the_ledger_nothing(stage: Stage) -> None:
    """Only a change, a new cancellation or a failed record is a reason to record."""
    async with stage.watching():
        await stage.clock.advance(60)
        assert stage.record.attempts == 1
        stage.reads.says = CANCELLING
        await stage.cancelled(a_cancellation(update=CANCELLING))
        await stage.clock.advance(60)
        assert stage.record.attempts == 2


@pytest.mark.parametrize("watched", [True, False], ids=["watched", "unwatched"])
async def test_an_unanswered_cancel_without_a_trace_is_noted(stage: Stage, watched: bool) -> None:
    """Ten seconds after the attempt, whoever watches, once; and no more when a cancellation is seen."""
    async with AsyncExitStack() as stack:
        unknown = replace(a_cancellation(OutcomeKind.UNKNOWN), phase_reason="unanswered")
        await stage.cancelled(unknown)
        stream = await stack.enter_async_context(stage.watching()) if watched else None
        await stage.clock.advance(9)
        assert [each.note for each in stage.record.observations] == [""]
        await stage.clock.advance(3)
        assert [each.note for each in stage.record.observations] == ["", NO_TRACE]
        looks = len(stage.reads.calls)
        await stage.clock.advance(60)
        assert len(stage.record.observations) == 2
        assert len(stage.reads.calls) > looks
        stage.reads.says = CANCELLING
        await stage.clock.advance(33)
        assert [each.note for each in stage.record.observations] == ["", NO_TRACE, ""]
    if stream is not None:
        told = [
            (each.phase, each.state.reason) for each in stream.events if each.kind is not WatchKind.HEARTBEAT
        ]
        assert told == [("OUTCOME_UNKNOWN", ""), ("OUTCOME_UNKNOWN", NO_TRACE), ("CANCELLING", "")]


async def test_a_cancel_that_is_still_on_its_way_is_not_called_lost(stage: Stage) -> None:
    """The ledger shows an intent before its attempt has ended: the ten seconds begin after that."""
    asked = replace(a_cancellation(None), forward_time=None)
    async with stage.watching():
        stage.record.held.append(asked)
        stage.reads.says = an_update("Odd")
        await stage.clock.advance(6)
        stage.reads.says = an_update()
        await stage.clock.advance(25)
        assert {each.note for each in stage.record.observations} == {""}
        stage.watches.follow(asked)  # as after a start, or when the outcome could not be recorded
        await stage.clock.advance(6)
        assert stage.record.observations[-1].note == NO_TRACE


async def test_looks_that_fail_are_no_reason_to_look_more_often(stage: Stage) -> None:
    """While EKS cannot be read, an unanswered cancel is looked at as seldom as any other."""
    await stage.cancelled(a_cancellation(OutcomeKind.UNKNOWN))
    stage.reads.says = EksUnavailable()
    await stage.clock.advance(300)
    assert len(stage.reads.calls) <= 13
    assert {each.note for each in stage.record.observations} == {""}


async def test_an_outcome_that_comes_late(stage: Stage) -> None:
    """While the newest cancellation has no outcome the ledger is asked for it at each look."""
    unheard = a_cancellation(None)
    await stage.cancelled(unheard)
    async with stage.watching() as stream:
        assert stream.told[-1][2] == "OUTCOME_UNKNOWN"
        stage.record.held = [replace(unheard, outcome=a_cancellation().outcome)]
        await stage.clock.advance(6)
        assert stream.told[-1] == ("CHANGE", "InProgress", "REQUESTED", 2)


async def test_the_ledger_fails_and_recovers(stage: Stage) -> None:
    """What EKS says is told all the same, and written down when the ledger is back."""
    stage.record.fails = LedgerUnavailable()
    stage.reads.says = CANCELLING
    async with stage.watching() as stream:
        await stage.cancelled(a_cancellation(update=ASKED))
        assert stream.told[-1][1:3] == ("Cancelling", "CANCELLING")
        await stage.clock.advance(20)
        assert stage.record.attempts >= 4
        stage.record.fails = None
        await stage.clock.advance(6)
        assert stage.record.statuses == ["Cancelling"]
        await stage.clock.advance(20)
        assert stage.record.statuses == ["Cancelling"]


@pytest.mark.parametrize("fault", [LedgerUnavailable(), ZeroDivisionError()], ids=["ledger", "bug"])
async def test_the_end_is_told_at_once_and_recorded_in_the_end(stage: Stage, fault: Exception) -> None:
    """A poller with a pending cancellation outlives FINAL until that is recorded, without reading on."""
    await stage.cancelled(a_cancellation(update=ASKED))
    async with stage.watching() as stream:
        stage.record.fails = fault
        stage.reads.says = CANCELLED
        await stage.clock.advance(6)
        assert stream.told[-1][:3] == ("FINAL", "Cancelled", "CANCELLED")
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


async def test_nothing_pending_does_not_wait_for_the_ledger(stage: Stage) -> None:
    """A plain watch ends with FINAL though the ledger is down."""
    stage.record.fails = LedgerUnavailable()
    stage.reads.says = CANCELLED
    async with stage.watching() as stream:
        assert [one.kind for one in stream.events] == ["SNAPSHOT", "FINAL"]
    assert stage.watches.pollers == 0


@pytest.mark.parametrize("error", [EksUnavailable(), EksThrottled(), EksNotFound()], ids=lambda e: e.reason)
async def test_nothing_ever_seen(stage: Stage, error: Exception) -> None:
    """Watchers get EKS's own error when there is no state to give, and the poller ends."""
    stage.reads.says = error
    async with stage.watching() as stream:
        assert type(stream.error) is type(error)
        assert stage.watches.pollers == 0


async def test_a_failing_poll_keeps_the_stream(stage: Stage) -> None:
    """Who watches keeps what is known; who joins gets it too, with its old time; then it recovers."""
    async with stage.watching() as stream:
        stage.reads.says = EksUnavailable()
        await stage.clock.advance(30)
        async with stage.watching() as late:
            assert late.statuses == ["InProgress"]
            assert late.events[0].observe_time == START
        assert stream.error is None
        stage.reads.says = CANCELLED
        await stage.clock.advance(6)
        assert stream.statuses == ["InProgress", "Cancelled"]


@pytest.mark.parametrize("error", [EksThrottled(), Overloaded(), EksUnavailable()], ids=lambda e: e.reason)
async def test_one_failure_makes_no_update_older_than_others(stage: Stage, error: Exception) -> None:
    """The next look comes after the usual rest: how many calls EKS gets then is the budget's affair."""
    async with stage.watching():
        stage.reads.says = error
        await stage.clock.advance(60)
        rests = [after - before for before, after in pairwise(stage.reads.calls)]
        assert rests == pytest.approx([5] * len(rests), rel=0.1001)


async def test_missing_for_ten_minutes(stage: Stage) -> None:
    """The record says that EKS lost the update, watchers get EksNotFound, and following ends."""
    stage.reads.says = ASKED
    await stage.cancelled(a_cancellation(update=ASKED))
    async with stage.watching() as stream:
        stage.reads.says = EksNotFound()
        await stage.clock.advance(595)
        assert stream.error is None
        assert stage.record.held[0].settled is False
        await stage.clock.advance(20)
        assert isinstance(stream.error, EksNotFound)
        assert stage.record.statuses == ["InProgress", None]
        assert stage.record.held[0].phase_reason == "EKS has not known this update for 10 minutes."
        assert stage.watches.pollers == 0


async def test_missing_now_and_then_is_not_missing(stage: Stage) -> None:
    """Ten minutes start anew whenever EKS knows the update again."""
    async with stage.watching() as stream:
        for _ in range(3):
            stage.reads.says = EksNotFound()
            await stage.clock.advance(400)
            stage.reads.says = an_update()
            await stage.clock.advance(6)
        assert stream.error is None
        assert stage.record.statuses == ["InProgress"]


async def test_missing_and_not_recorded(stage: Stage) -> None:
    """While the ledger is down a lost update is followed on, so that its record comes to an end."""
    stage.reads.says = ASKED
    await stage.cancelled(a_cancellation(update=ASKED))
    stage.reads.says = EksNotFound()
    stage.record.fails = LedgerUnavailable()
    await stage.clock.advance(700)
    assert stage.watches.pollers == 1
    stage.record.fails = None
    await stage.clock.advance(34)
    assert stage.record.statuses[-1] is None
    assert stage.watches.pollers == 0


async def test_a_cancel_while_an_update_is_given_up(stage: Stage) -> None:
    """A cancellation that comes while the end of following is written down is followed."""
    stage.reads.says = ASKED
    await stage.cancelled(a_cancellation(update=ASKED))
    stage.reads.says = EksNotFound()
    stage.record.open.clear()
    await stage.clock.advance(700)
    assert stage.record.statuses[-1] is None
    stage.reads.says = CANCELLING
    await stage.cancelled(a_cancellation(update=CANCELLING, number=2))
    stage.record.open.set()
    await stage.clock.advance(34)
    assert stage.record.statuses[-1] == "Cancelling"
    assert stage.watches.pollers == 1
