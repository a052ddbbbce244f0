"""The lifecycle of one update as a pure function of time.

    nodes ──────────────► control plane ──────► Successful, Failed
      │  cluster ACTIVE     cluster UPDATING
      ├─ cancel ──► Cancelling ──► Cancelled      (the node being replaced finishes first)
      │                 └─► the cancellation fails: the update goes on
      └─ timeout ──► Failed, or Cancelling ──► Cancelled

Only a VersionRollback on an EKS Auto Mode cluster has the node stage. Follows the EKS user guide
("Rollback EKS Auto Mode clusters") and botocore's eks/2017-11-01 model.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from eksgateway.model import FINAL_STATUSES, UpdateCancellation, UpdateError, UpdateParam

ROLLBACK: Final = "VersionRollback"
NODE_PHASE_S: Final = 3600.0  # EKS: minutes to 7 days
CANCEL_REASON: Final = "The node rollback could not be stopped."


class Stage(StrEnum):
    NODES = "nodes"
    CONTROL_PLANE = "control plane"
    ENDED = "ended"


class OnCancel(StrEnum):
    """The result of an accepted cancel."""

    CANCELS = "cancels"
    FAILS = "fails"  # after the node being replaced; then the update goes on
    COMPLETES = "completes"  # the nodes are done first: the update ends as without a cancel


class OnTimeout(StrEnum):
    """The result when the nodes take too long. The guide has Failed, the model's text "cancelling"."""

    FAILED = "Failed"
    CANCELLED = "Cancelled"


@dataclass(frozen=True, slots=True)
class Resource:
    """A nodegroup, add-on or capability."""

    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The future of an update, in simulated seconds.

    After a cancel the status stays InProgress for ``cancel_delay_s``, then is Cancelling for
    ``node_replacing_s``.
    """

    node_phase_s: float = 0
    control_plane_phase_s: float = 600
    timeout_s: float = 720 * 60
    node_replacing_s: float = 120
    cancel_delay_s: float = 0
    on_cancel: OnCancel = OnCancel.CANCELS
    on_timeout: OnTimeout = OnTimeout.FAILED
    cancel_reason: str = CANCEL_REASON
    refusal: str = "InvalidStateException"
    ends: str = "Successful"


@dataclass(frozen=True, slots=True)
class SimulatedUpdate:
    """An update, independent of the time. ``started`` and ``cancel_requested`` are simulated seconds.

    ``set_status`` and ``set_cancellation`` replace the values of the plan; AWS need not know them.
    """

    id: str
    type: str
    params: tuple[UpdateParam, ...]
    errors: tuple[UpdateError, ...]
    created_at: datetime
    started: float
    plan: Plan
    resource: Resource | None = None
    cancel_requested: float | None = None
    set_status: str | None = None
    set_cancellation: UpdateCancellation | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    status: str
    stage: Stage
    cancellation: UpdateCancellation | None = None
    errors: tuple[UpdateError, ...] = ()

    @property
    def running(self) -> bool:
        return self.status not in FINAL_STATUSES


def take_snapshot(update: SimulatedUpdate, now: float) -> Snapshot:
    planned = _apply_plan(update, now)
    if update.set_status is None and update.set_cancellation is None:
        return planned
    status = update.set_status or planned.status
    return Snapshot(
        status=status,
        stage=Stage.ENDED if status in FINAL_STATUSES else planned.stage,
        cancellation=update.set_cancellation or planned.cancellation,
        errors=update.errors if update.set_status else planned.errors,
    )


def _apply_plan(update: SimulatedUpdate, now: float) -> Snapshot:
    plan, passed = update.plan, now - update.started
    cancellation = None
    if (cancel := _find_cancel(update, passed)) is not None:
        if (snapshot := _cancelling_snapshot(plan, passed, *cancel)) is not None:
            return snapshot
        cancellation = UpdateCancellation("Failed", plan.cancel_reason)
    if passed < min(plan.node_phase_s, plan.timeout_s):
        return Snapshot("InProgress", Stage.NODES, cancellation)
    if plan.timeout_s < plan.node_phase_s:
        return Snapshot("Failed", Stage.ENDED, cancellation, update.errors or (_timeout_error(plan),))
    if passed < plan.node_phase_s + plan.control_plane_phase_s:
        return Snapshot("InProgress", Stage.CONTROL_PLANE, cancellation)
    return Snapshot(plan.ends, Stage.ENDED, cancellation, update.errors if plan.ends == "Failed" else ())


def _find_cancel(update: SimulatedUpdate, passed: float) -> tuple[float, str] | None:
    """When and why a caller or the timeout stops the nodes, if it has."""
    plan = update.plan
    if update.cancel_requested is not None:
        return update.cancel_requested - update.started, "Cancellation was requested."
    timed_out = plan.timeout_s < plan.node_phase_s and passed >= plan.timeout_s
    if timed_out and plan.on_timeout is OnTimeout.CANCELLED:
        return plan.timeout_s, "The node rollback timed out."
    return None


def _cancelling_snapshot(plan: Plan, passed: float, requested: float, why: str) -> Snapshot | None:
    """None once the cancellation has failed."""
    settled = requested + plan.cancel_delay_s + plan.node_replacing_s
    nodes_end = min(plan.node_phase_s, plan.timeout_s)
    stops = plan.on_cancel is OnCancel.CANCELS or requested >= nodes_end
    if plan.on_cancel is OnCancel.COMPLETES and not stops:
        settled = nodes_end
    elif not stops:
        settled = min(settled, nodes_end)
    if passed < settled:
        status = "InProgress" if passed < requested + plan.cancel_delay_s else "Cancelling"
        return Snapshot(status, Stage.NODES, UpdateCancellation("InProgress", why))
    if stops:
        return Snapshot("Cancelled", Stage.ENDED, UpdateCancellation("Successful", why))
    return None


def _timeout_error(plan: Plan) -> UpdateError:
    return UpdateError("Unknown", f"The node rollback timed out after {plan.timeout_s / 60:.0f} minutes.")
