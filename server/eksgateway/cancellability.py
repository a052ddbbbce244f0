"""Advises whether EKS would accept a cancel now. Never a rule: only EKS decides.

Source: the EKS user guide on rolling back a cluster. Only VersionRollback updates of Auto Mode clusters
can be cancelled, and only while the nodes roll back, when the cluster is ACTIVE.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from eksgateway import phases
from eksgateway.model import ClusterFacts, Update


@dataclass(frozen=True, slots=True)
class Advice:
    """Whether EKS would probably accept a cancel, why, and what to do next."""

    cancellable_now: bool
    explanation: str
    next_step: str


_WATCH: Final = "Watch the update to see it end."


def advise(cluster: ClusterFacts, update: Update) -> Advice:
    """The first condition that applies gives the advice."""
    if update.final:
        return Advice(False, f"The update has ended: it is {update.status}.", "There is nothing to cancel.")
    if phases.is_cancelling(update):
        return Advice(False, "EKS is cancelling this update already.", _WATCH)
    if cluster.status == "UPDATING":
        return Advice(False, "The control plane has begun: the cluster is UPDATING.", _WATCH)
    if update.type != "VersionRollback":
        explanation = f"EKS is not known to cancel {update.type} updates: only VersionRollback."
        return Advice(False, explanation, "A cancel may be tried; expect EKS to refuse it.")
    explanation = "The nodes are rolling back and the control plane has not begun."
    if update.cancellation is not None and update.cancellation.status == "Failed":
        explanation += (
            f" An earlier cancellation failed: {update.cancellation.reason or 'EKS gives no reason.'}"
        )
    return Advice(True, explanation, "Cancel soon: it is too late once the control plane begins.")
