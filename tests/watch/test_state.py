"""Which sighting stands, and which state is published."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from eksgateway.model import Cancellation, OutcomeKind, Phase, Update
from eksgateway.watch.slot import WatchState
from eksgateway.watch.tracked_update import Sighting, latest_of, phase_to_publish, sighting_in_record
from support.watching import START, a_cancellation, an_update

RUNNING = an_update()
ASKED = an_update(cancellation="InProgress")
CANCELLING = an_update("Cancelling", "InProgress")
GONE_BACK = an_update(cancellation="Failed")
CANCELLED = an_update("Cancelled", "Successful")
SUCCESSFUL = an_update("Successful")
UNKNOWN = an_update("Reticulating")


def sighting(update: Update, begun: float, ended: float) -> Sighting:
    return Sighting(update, datetime.fromtimestamp(begun, UTC), begun, ended)


@pytest.mark.parametrize(
    ("known", "new", "stands"),
    [
        pytest.param(
            sighting(RUNNING, 1, 2), sighting(UNKNOWN, 2, 3), UNKNOWN, id="later wins, unknown or not"
        ),
        pytest.param(
            sighting(CANCELLING, 1, 2), sighting(GONE_BACK, 3, 4), GONE_BACK, id="later wins, also going back"
        ),
        pytest.param(
            sighting(CANCELLING, 2, 3), sighting(RUNNING, 1, 4), CANCELLING, id="begun before, less far along"
        ),
        pytest.param(
            sighting(RUNNING, 2, 3), sighting(CANCELLING, 1, 4), CANCELLING, id="begun before, further along"
        ),
        pytest.param(
            sighting(CANCELLING, 1, 3), sighting(RUNNING, 2, 4), CANCELLING, id="at once, less far along"
        ),
        pytest.param(
            sighting(ASKED, 1, 3), sighting(GONE_BACK, 2, 4), ASKED, id="at once, equally far: the known"
        ),
        pytest.param(sighting(CANCELLED, 1, 2), sighting(RUNNING, 3, 4), CANCELLED, id="final stays"),
        pytest.param(
            sighting(CANCELLED, 1, 3), sighting(SUCCESSFUL, 2, 4), CANCELLED, id="the first final stays"
        ),
    ],
)
def test_later_call_wins_and_rank_orders_overlapping_ones(
    known: Sighting, new: Sighting, stands: Update
) -> None:
    """A final state stays."""
    assert latest_of(known, new).update == stands


def test_first_sighting_stands() -> None:
    assert latest_of(None, sighting(RUNNING, 1, 2)) == sighting(RUNNING, 1, 2)


@pytest.mark.parametrize(("begun", "youngest"), [(0.5, 1), (1.5, 1.5)])
def test_same_state_makes_the_sighting_younger_never_older(begun: float, youngest: float) -> None:
    stands = latest_of(sighting(RUNNING, 1, 2), sighting(replace(RUNNING), begun, 3))
    assert stands == sighting(RUNNING, youngest, 3)


def test_record_replaces_only_a_state_less_far_along() -> None:
    """Its call is not timed against polls."""
    answer = sighting_in_record(a_cancellation(update=CANCELLING), ended=5)
    assert latest_of(sighting(RUNNING, 1, 2), answer).update == CANCELLING
    assert latest_of(answer, sighting(RUNNING, 4.9, 6)).update == CANCELLING
    assert latest_of(answer, sighting(RUNNING, 5, 6)).update == RUNNING
    assert (
        latest_of(sighting(GONE_BACK, 1, 2), sighting_in_record(a_cancellation(update=ASKED), ended=5)).update
        == GONE_BACK
    )


def test_observe_time_of_a_record_is_not_overstated() -> None:
    """An update that was not seen after the intent is as old as the intent."""
    later = START + timedelta(minutes=1)
    unseen = replace(a_cancellation(OutcomeKind.UNKNOWN), update_time=later)
    answered = replace(a_cancellation(update=CANCELLING), update_time=later)
    assert sighting_in_record(unseen, 5).observe_time == START
    assert sighting_in_record(answered, 5).observe_time == later


@pytest.mark.parametrize(
    ("newest", "update", "phase"),
    [
        pytest.param(None, RUNNING, None, id="nothing asked"),
        pytest.param(None, UNKNOWN, None, id="unknown status"),
        pytest.param(None, SUCCESSFUL, None, id="ended, never cancelled"),
        pytest.param(None, an_update("Failed"), None, id="failed, never cancelled"),
        pytest.param(None, CANCELLING, Phase.CANCELLING, id="another tool's cancel"),
        pytest.param(None, an_update("Cancelled"), Phase.CANCELLED, id="another tool's, no block"),
        pytest.param(None, an_update("Successful", "Failed"), Phase.COMPLETED_ANYWAY, id="in spite of it"),
        pytest.param(a_cancellation(), RUNNING, Phase.REQUESTED, id="accepted"),
        pytest.param(a_cancellation(), CANCELLED, Phase.CANCELLED, id="accepted, then cancelled"),
        pytest.param(a_cancellation(), SUCCESSFUL, Phase.COMPLETED_ANYWAY, id="accepted, then successful"),
        pytest.param(a_cancellation(None), RUNNING, Phase.OUTCOME_UNKNOWN, id="no outcome"),
        pytest.param(a_cancellation(OutcomeKind.REFUSED), SUCCESSFUL, Phase.REJECTED, id="refused"),
    ],
)
def test_published_phase_is_the_newest_cancellations_or_the_updates(
    newest: Cancellation | None, update: Update, phase: Phase | None
) -> None:
    assert phase_to_publish(newest, update) == phase


def test_states_that_differ_in_time_alone_are_the_same() -> None:
    state = WatchState(RUNNING, None, START)
    assert state.same_as(replace(state, observe_time=START + timedelta(1)))
    assert not state.same_as(replace(state, phase=Phase.REQUESTED))
    assert not state.same_as(replace(state, update=CANCELLING))
    assert not state.same_as(None)
