"""The known state of an update and the records owed for it, without a loop."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta

import pytest

from eksgateway.eks.shared_reads import SeenUpdate
from eksgateway.errors import EksNotFound, EksUnavailable
from eksgateway.ledger.protocol import CancellationSummary
from eksgateway.model import Cancellation, OutcomeKind, Phase, Update
from eksgateway.phases import NO_TRACE
from eksgateway.watch.tracked_update import TrackedUpdate
from support.watching import START, a_cancellation, an_update

CANCELLED = an_update("Cancelled", "Successful")
UNANSWERED = a_cancellation(OutcomeKind.UNKNOWN)


def read(update: Update, seconds: float = 0) -> SeenUpdate:
    return SeenUpdate(update, START + timedelta(seconds=seconds), 1000 + seconds)


def track(*updates: Update) -> TrackedUpdate:
    known = TrackedUpdate()
    for number, update in enumerate(updates):
        known.see(read(update, number), 1000 + number)
    return known


def record(known: TrackedUpdate, newest: Cancellation | None = None) -> None:
    known.confirm(known.version, CancellationSummary(newest, newest is not None and not newest.settled))


def test_see_reports_a_change_of_a_known_update_only() -> None:
    known = TrackedUpdate()
    assert not known.see(read(an_update()), 1000)
    assert not known.see(read(an_update(), 1), 1001)
    assert known.see(read(CANCELLED, 2), 1002)


def test_update_without_watchers_or_cancellation_is_over() -> None:
    known = track(an_update())
    assert known.is_over(watched=False)
    assert not known.is_over(watched=True)


def test_final_update_with_a_pending_cancellation_is_over_once_recorded() -> None:
    known = track(an_update())
    known.follow(a_cancellation(), 1001, None)
    known.see(read(CANCELLED, 2), 1002)
    assert not known.is_over(watched=False)
    record(known)
    assert known.is_over(watched=True)


def test_ledger_is_owed_each_change_once() -> None:
    known = track(an_update())
    assert known.observation_to_record() is not None
    record(known)
    assert known.observation_to_record() is None
    known.see(read(an_update(), 1), 1001)
    assert known.observation_to_record() is None
    known.see(read(CANCELLED, 2), 1002)
    observation = known.observation_to_record()
    assert observation is not None
    assert observation.update == CANCELLED


def test_record_alone_is_not_owed_to_the_ledger() -> None:
    known = TrackedUpdate()
    known.follow(a_cancellation(), 1000, None)
    assert known.observation_to_record() is None
    assert known.needs_read


def test_ledger_is_asked_until_it_has_the_outcome() -> None:
    known = track(an_update())
    record(known, a_cancellation(None))
    assert known.observation_to_record() is not None
    record(known, a_cancellation())
    assert known.observation_to_record() is None


def test_answer_from_before_a_cancellation_is_dropped() -> None:
    known = track(an_update())
    version = known.version
    known.follow(a_cancellation(), 1001, None)
    known.confirm(version, CancellationSummary(None, pending=False))
    assert known.pending
    assert known.observation_to_record() is not None


def test_unanswered_cancel_without_a_trace_is_noted_after_ten_seconds() -> None:
    known = track(an_update())
    known.follow(UNANSWERED, 1000, None)
    record(known, UNANSWERED)
    assert known.seconds_to_trace_check(START) == 10
    assert known.observation_to_record() is None
    known.see(read(an_update(), 10), 1010)
    observation = known.observation_to_record()
    assert observation is not None
    assert observation.note == NO_TRACE
    record(known, replace(UNANSWERED, phase_reason=NO_TRACE))
    assert known.seconds_to_trace_check(START) == math.inf
    assert known.observation_to_record() is None


def test_failed_reads_keep_the_known_state() -> None:
    known = track(an_update())
    known.fail(EksUnavailable())
    assert not known.given_up
    assert known.state is not None
    assert known.seconds_to_trace_check(START) == math.inf


def test_update_that_was_never_read_is_given_up() -> None:
    known = TrackedUpdate()
    known.fail(EksNotFound())
    assert known.given_up
    assert known.is_over(watched=True)


def test_missing_time_starts_anew_after_a_read() -> None:
    known = track(an_update())
    assert known.missing_for(1000) == 0
    assert known.missing_for(1400) == 400
    known.see(read(an_update(), 401), 1401)
    assert known.missing_for(1500) == 0


@pytest.mark.parametrize("cancelled", [False, True])
def test_cancellation_while_giving_up_is_followed(cancelled: bool) -> None:
    known = track(an_update())
    version = known.version
    if cancelled:
        known.follow(a_cancellation(), 1001, None)
    known.give_up(version)
    assert known.given_up != cancelled


IN_FLIGHT = a_cancellation(None)
ACCEPTED = a_cancellation(update=an_update("Cancelling"))


def test_a_cancel_in_flight_is_published_as_unknown() -> None:
    """As GetCancellation answers. It is news until it is followed: then it is in flight no longer."""
    known = track(an_update())
    record(known, IN_FLIGHT)
    assert known.state
    assert known.state.phase is Phase.OUTCOME_UNKNOWN
    assert known.is_news(IN_FLIGHT)
    known.follow(IN_FLIGHT, 1001, None)
    assert known.state.phase is Phase.OUTCOME_UNKNOWN
    assert not known.is_news(IN_FLIGHT)


def test_an_outcome_and_a_newer_cancellation_are_news() -> None:
    """A later observation is none, and neither is an older cancellation."""
    known = track(an_update())
    assert known.is_news(ACCEPTED)
    known.follow(ACCEPTED, 1001, None)
    assert not known.is_news(ACCEPTED)
    assert not known.is_news(replace(ACCEPTED, update=CANCELLED, phase=Phase.CANCELLED, settled=True))
    assert known.is_news(a_cancellation(OutcomeKind.UNKNOWN))
    assert known.is_news(a_cancellation(number=2, time=START + timedelta(seconds=1)))
    assert not known.is_news(a_cancellation(number=0, time=START - timedelta(seconds=1)))


def test_an_end_that_another_replica_recorded_ends_the_polls() -> None:
    """Without another read, unless another cancellation is pending."""
    known = track(an_update())
    known.follow(ACCEPTED, 1001, None)
    settled = replace(ACCEPTED, update=CANCELLED, phase=Phase.CANCELLED, settled=True)
    known.take_up(settled, 1002, pending=True)
    assert not known.is_over(watched=False)
    known.take_up(settled, 1003, pending=False)
    assert known.is_over(watched=True)
    assert known.state
    assert (known.state.update, known.state.phase) == (CANCELLED, Phase.CANCELLED)


def test_the_end_of_an_older_cancellation_leaves_the_newest_pending() -> None:
    known = track(an_update())
    known.follow(a_cancellation(number=2, time=START + timedelta(seconds=1)), 1001, None)
    known.take_up(replace(ACCEPTED, settled=True), 1002, pending=False)
    assert not known.is_over(watched=False)


def test_an_outdated_observation_is_recorded_again() -> None:
    """The ledger had a newer state, so the next poll asks again."""
    known = track(an_update())
    known.follow(ACCEPTED, 1001, None)
    assert known.observation_to_record() is None  # a record is not owed
    known.see(read(an_update("Cancelling"), 2), 1002)
    known.see(read(an_update(cancellation="Failed"), 3), 1003)
    assert known.observation_to_record()
    known.confirm(known.version, CancellationSummary(ACCEPTED, pending=True, outdated=True))
    assert known.observation_to_record()
    record(known, ACCEPTED)
    assert known.observation_to_record() is None


@pytest.mark.parametrize(("seconds", "phase"), [(2, Phase.CANCELLATION_FAILED), (5, Phase.CANCELLING)])
def test_a_record_replaces_no_newer_read(seconds: float, phase: Phase) -> None:
    """It was recorded by another replica, and may be late: EKS goes back when a cancellation fails."""
    known = track(an_update())
    known.follow(ACCEPTED, 1001, None)
    known.see(read(an_update(cancellation="Failed"), 3), 1003)
    known.take_up(replace(ACCEPTED, update_time=START + timedelta(seconds=seconds)), 1004, pending=True)
    assert known.state
    assert known.state.phase is phase


def test_an_end_counts_however_old_its_record_is() -> None:
    known = track(an_update(), an_update("Cancelling"))
    known.follow(ACCEPTED, 1001, None)
    known.take_up(replace(ACCEPTED, update=CANCELLED), 1004, pending=True)
    assert known.state
    assert known.state.phase is Phase.CANCELLED
