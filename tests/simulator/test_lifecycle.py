"""The lifecycle of an update as a function of time, without a server."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from eksgateway.model import UpdateCancellation, UpdateError
from eksgateway.simulator.lifecycle import (
    OnCancel,
    OnTimeout,
    Plan,
    SimulatedUpdate,
    Snapshot,
    Stage,
    take_snapshot,
)

ROLLBACK_PLAN = Plan(node_phase_s=1000, control_plane_phase_s=100, timeout_s=7200, node_replacing_s=50)
LATE_PLAN = replace(ROLLBACK_PLAN, node_phase_s=10_000)
STARTED = 40.0


def rollback(plan: Plan = ROLLBACK_PLAN, *, cancel_at: float | None = None) -> SimulatedUpdate:
    """A rollback; ``cancel_at`` counts from its start."""
    return SimulatedUpdate(
        id="u",
        type="VersionRollback",
        params=(),
        errors=(),
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        started=STARTED,
        plan=plan,
        cancel_requested=None if cancel_at is None else STARTED + cancel_at,
    )


def at(update: SimulatedUpdate, passed: float) -> tuple[str, Stage, str | None]:
    seen = take_snapshot(update, STARTED + passed)
    return seen.status, seen.stage, seen.cancellation.status if seen.cancellation else None


FAILS = replace(ROLLBACK_PLAN, on_cancel=OnCancel.FAILS)
COMPLETES = replace(ROLLBACK_PLAN, on_cancel=OnCancel.COMPLETES)
SLOW_START = replace(ROLLBACK_PLAN, cancel_delay_s=20)
TIMEOUT_CANCELS = replace(LATE_PLAN, on_timeout=OnTimeout.CANCELLED)


@pytest.mark.parametrize(
    ("plan", "cancel_at", "passed", "expected"),
    [
        pytest.param(ROLLBACK_PLAN, None, 0, ("InProgress", Stage.NODES, None), id="starts with the nodes"),
        pytest.param(ROLLBACK_PLAN, None, 999, ("InProgress", Stage.NODES, None), id="last node"),
        pytest.param(
            ROLLBACK_PLAN, None, 1000, ("InProgress", Stage.CONTROL_PLANE, None), id="control plane"
        ),
        pytest.param(ROLLBACK_PLAN, None, 1100, ("Successful", Stage.ENDED, None), id="ends"),
        pytest.param(
            replace(ROLLBACK_PLAN, ends="Failed"),
            None,
            1100,
            ("Failed", Stage.ENDED, None),
            id="ends badly",
        ),
        pytest.param(
            replace(ROLLBACK_PLAN, node_phase_s=0),
            None,
            0,
            ("InProgress", Stage.CONTROL_PLANE, None),
            id="no nodes",
        ),
        pytest.param(ROLLBACK_PLAN, 10, 10, ("Cancelling", Stage.NODES, "InProgress"), id="cancelling"),
        pytest.param(
            ROLLBACK_PLAN, 10, 59, ("Cancelling", Stage.NODES, "InProgress"), id="node finishes first"
        ),
        pytest.param(ROLLBACK_PLAN, 10, 60, ("Cancelled", Stage.ENDED, "Successful"), id="cancelled"),
        pytest.param(
            ROLLBACK_PLAN,
            990,
            1010,
            ("Cancelling", Stage.NODES, "InProgress"),
            id="cancel outlasts nodes",
        ),
        pytest.param(
            ROLLBACK_PLAN, 990, 9999, ("Cancelled", Stage.ENDED, "Successful"), id="cancelled for good"
        ),
        pytest.param(SLOW_START, 10, 29, ("InProgress", Stage.NODES, "InProgress"), id="accepted, not begun"),
        pytest.param(
            SLOW_START, 10, 30, ("Cancelling", Stage.NODES, "InProgress"), id="begun after the delay"
        ),
        pytest.param(FAILS, 10, 59, ("Cancelling", Stage.NODES, "InProgress"), id="tries"),
        pytest.param(FAILS, 10, 60, ("InProgress", Stage.NODES, "Failed"), id="cancellation fails"),
        pytest.param(
            FAILS, 10, 1000, ("InProgress", Stage.CONTROL_PLANE, "Failed"), id="goes on after failing"
        ),
        pytest.param(FAILS, 10, 1100, ("Successful", Stage.ENDED, "Failed"), id="successful after failing"),
        pytest.param(
            FAILS,
            990,
            1000,
            ("InProgress", Stage.CONTROL_PLANE, "Failed"),
            id="fails with the nodes' end",
        ),
        pytest.param(COMPLETES, 10, 999, ("Cancelling", Stage.NODES, "InProgress"), id="tries to the end"),
        pytest.param(COMPLETES, 10, 1000, ("InProgress", Stage.CONTROL_PLANE, "Failed"), id="overtaken"),
        pytest.param(COMPLETES, 10, 1100, ("Successful", Stage.ENDED, "Failed"), id="completes anyway"),
        pytest.param(LATE_PLAN, None, 7199, ("InProgress", Stage.NODES, None), id="not timed out yet"),
        pytest.param(LATE_PLAN, None, 7200, ("Failed", Stage.ENDED, None), id="time-out fails"),
        pytest.param(
            LATE_PLAN,
            7100,
            7300,
            ("Cancelled", Stage.ENDED, "Successful"),
            id="cancelled before time-out",
        ),
        pytest.param(
            replace(LATE_PLAN, on_cancel=OnCancel.FAILS),
            10,
            7200,
            ("Failed", Stage.ENDED, "Failed"),
            id="both fail",
        ),
        pytest.param(
            TIMEOUT_CANCELS,
            None,
            7200,
            ("Cancelling", Stage.NODES, "InProgress"),
            id="time-out cancels",
        ),
        pytest.param(
            TIMEOUT_CANCELS,
            None,
            7250,
            ("Cancelled", Stage.ENDED, "Successful"),
            id="cancelled by time-out",
        ),
        pytest.param(
            replace(TIMEOUT_CANCELS, on_cancel=OnCancel.FAILS),
            None,
            7250,
            ("Cancelled", Stage.ENDED, "Successful"),
            id="a time-out's own cancellation does not fail",
        ),
    ],
)
def test_take_snapshot_follows_plan_cancel_and_time(
    plan: Plan, cancel_at: float | None, passed: float, expected: tuple[str, Stage, str | None]
) -> None:
    assert at(rollback(plan, cancel_at=cancel_at), passed) == expected


def test_a_failed_cancellation_has_the_reason_of_the_plan() -> None:
    plan = replace(ROLLBACK_PLAN, on_cancel=OnCancel.FAILS, cancel_reason="A node would not stop.")
    seen = take_snapshot(rollback(plan, cancel_at=0), STARTED + 500)
    assert seen.cancellation == UpdateCancellation("Failed", "A node would not stop.")


def test_an_update_that_timed_out_has_an_error() -> None:
    (error,) = take_snapshot(rollback(LATE_PLAN), STARTED + 8000).errors
    assert error.error_code == "Unknown"
    assert "timed out after 120 minutes" in error.error_message


@pytest.mark.parametrize(("ends", "count"), [("Failed", 1), ("Successful", 0)])
def test_only_a_failed_update_has_the_given_errors(ends: str, count: int) -> None:
    plan = replace(ROLLBACK_PLAN, ends=ends)
    update = replace(rollback(plan), errors=(UpdateError("AccessDenied", "no"),))
    assert len(take_snapshot(update, STARTED + 2000).errors) == count
    assert take_snapshot(update, STARTED).errors == ()


def test_a_set_status_replaces_the_status_of_the_plan() -> None:
    """An unknown status is not final."""
    update = replace(rollback(), set_status="Paused")
    assert [take_snapshot(update, STARTED + passed).status for passed in (0, 1000, 9999)] == ["Paused"] * 3
    assert take_snapshot(update, STARTED).running
    assert take_snapshot(replace(update, set_status="Failed"), STARTED) == Snapshot("Failed", Stage.ENDED)


def test_a_set_cancellation_leaves_the_status() -> None:
    update = replace(rollback(), set_cancellation=UpdateCancellation("Someday", "soon"))
    assert at(update, 0) == ("InProgress", Stage.NODES, "Someday")
    assert at(update, 1000) == ("InProgress", Stage.CONTROL_PLANE, "Someday")
