"""One update's life as a pure function of time: what EKS would say of it at a given second.

    nodes ──────────────► control plane ──────► Successful, Failed
      │  cluster ACTIVE     cluster UPDATING
      ├─ cancel ──► Cancelling ──► Cancelled      (the node being replaced finishes first)
      │                 └─► the cancellation fails: on as before
      └─ time-out ─► Failed, or Cancelling ──► Cancelled

Only a VersionRollback on an EKS Auto Mode cluster has the nodes' stage. Follows the EKS user guide
("Rollback EKS Auto Mode clusters") and botocore's eks/2017-11-01 model.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from eksgateway.model import FINAL_STATUSES, UpdateCancellation, UpdateError, UpdateParam

ROLLBACK = "VersionRollback"
NODE_PHASE_S = 3600.0  # EKS: minutes to 7 days
CANCEL_REASON = "The node rollback could not be stopped."


class Stage(StrEnum):
    """Where the work of an update happens."""

    NODES = "nodes"
    CONTROL_PLANE = "control plane"
    ENDED = "ended"


class OnCancel(StrEnum):
    """What becomes of an accepted cancellation."""

    CANCELS = "cancels"
    FAILS = "fails"  # after the node being replaced; the update goes on
    COMPLETES = "completes"  # the nodes are done first: the update ends as if nobody had asked


class OnTimeout(StrEnum):
    """What follows when the nodes take too long: the guide says Failed, the model's text "cancelling"."""

    FAILED = "Failed"
    CANCELLED = "Cancelled"


@dataclass(frozen=True, slots=True)
class Resource:
    """The nodegroup, add-on or capability that an update belongs to, where it is not the cluster's own."""

    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What will happen to an update. Durations are in simulated seconds.

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
class Update:
    """An update at rest. ``started`` and ``cancel_asked`` are simulated seconds.

    ``set_status`` and ``set_cancellation``, where given, are said instead of what the plan leads
    to: for values that AWS may add later, and for states that somebody wants to hold still.
    """

    id: str
    type: str
    params: tuple[UpdateParam, ...]
    errors: tuple[UpdateError, ...]
    created_at: datetime
    started: float
    plan: Plan
    resource: Resource | None = None
    cancel_asked: float | None = None
    set_status: str | None = None
    set_cancellation: UpdateCancellation | None = None


@dataclass(frozen=True, slots=True)
class View:
    """What EKS says of an update at one moment."""

    status: str
    stage: Stage
    cancellation: UpdateCancellation | None = None
    errors: tuple[UpdateError, ...] = ()

    @property
    def running(self) -> bool:
        return self.status not in FINAL_STATUSES


def view(update: Update, now: float) -> View:
    """The update at a simulated second."""
    planned = _planned(update, now)
    if update.set_status is None and update.set_cancellation is None:
        return planned
    status = update.set_status or planned.status
    return View(
        status=status,
        stage=Stage.ENDED if status in FINAL_STATUSES else planned.stage,
        cancellation=update.set_cancellation or planned.cancellation,
        errors=update.errors if update.set_status else planned.errors,
    )


def _planned(update: Update, now: float) -> View:
    plan, passed = update.plan, now - update.started
    cancellation = None
    cancel = _cancel(update, passed)
    if cancel is not None:
        asked, why = cancel
        stopping = _stopping(plan, passed, asked, why)
        if stopping is not None:
            return stopping
        cancellation = UpdateCancellation("Failed", plan.cancel_reason)
    if passed < min(plan.node_phase_s, plan.timeout_s):
        return View("InProgress", Stage.NODES, cancellation)
    if plan.timeout_s < plan.node_phase_s:
        return View("Failed", Stage.ENDED, cancellation, update.errors or (_timed_out(plan),))
    if passed < plan.node_phase_s + plan.control_plane_phase_s:
        return View("InProgress", Stage.CONTROL_PLANE, cancellation)
    return View(plan.ends, Stage.ENDED, cancellation, update.errors if plan.ends == "Failed" else ())


def _cancel(update: Update, passed: float) -> tuple[float, str] | None:
    """When and why the nodes are to stop, if anybody or the time-out has asked for it by now."""
    plan = update.plan
    if update.cancel_asked is not None:
        return update.cancel_asked - update.started, "Cancellation was requested."
    timed_out = plan.timeout_s < plan.node_phase_s and passed >= plan.timeout_s
    if timed_out and plan.on_timeout is OnTimeout.CANCELLED:
        return plan.timeout_s, "The node rollback timed out."
    return None


def _stopping(plan: Plan, passed: float, asked: float, why: str) -> View | None:
    """The update while its cancellation is in progress or has succeeded; None once it has failed."""
    settled = asked + plan.cancel_delay_s + plan.node_replacing_s
    nodes_end = min(plan.node_phase_s, plan.timeout_s)
    stops = plan.on_cancel is OnCancel.CANCELS or asked >= nodes_end
    if plan.on_cancel is OnCancel.COMPLETES and not stops:
        settled = nodes_end
    elif not stops:
        settled = min(settled, nodes_end)
    if passed < settled:
        status = "InProgress" if passed < asked + plan.cancel_delay_s else "Cancelling"
        return View(status, Stage.NODES, UpdateCancellation("InProgress", why))
    if stops:
        return View("Cancelled", Stage.ENDED, UpdateCancellation("Successful", why))
    return None


def _timed_out(plan: Plan) -> UpdateError:
    return UpdateError("Unknown", f"The node rollback timed out after {plan.timeout_s / 60:.0f} minutes.")
