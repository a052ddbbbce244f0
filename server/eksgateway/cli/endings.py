"""Whether an update has ended as it was waited for."""

from __future__ import annotations

from eksgateway.cli.exit_codes import ENDED_OTHERWISE
from eksgateway.cli.shared_options import Wanted
from eksgateway.client import Knowledge
from eksgateway.v1.cancellation_pb2 import Cancellation
from eksgateway.v1.cancellation_pb2 import CancellationPhase as Phase


def end_code(known: Knowledge, wanted: Wanted) -> int:
    """The exit code for a final state."""
    status, cancelling = known.update.status, _has_cancellation(known)
    as_wanted = {
        Wanted.ENDED: True,
        Wanted.CANCELLED: status == "Cancelled",
        Wanted.SUCCESSFUL: status == "Successful",
        Wanted.EXPECTED: status == "Cancelled" or (status == "Successful" and not cancelling),
    }
    return 0 if as_wanted[wanted] else ENDED_OTHERWISE


def cancellation_code(found: Cancellation) -> int:
    """For an answer of CancelUpdate: repeats of a request may find that it has ended."""
    ended_otherwise = (
        Phase.CANCELLATION_PHASE_COMPLETED_ANYWAY,
        Phase.CANCELLATION_PHASE_UPDATE_FAILED,
        Phase.CANCELLATION_PHASE_CANCELLATION_FAILED,
    )
    return ENDED_OTHERWISE if found.phase in ended_otherwise else 0


def _has_cancellation(known: Knowledge) -> bool:
    """One that EKS shows, or that the gateway has recorded."""
    return known.update.HasField("cancellation") or known.phase != Phase.CANCELLATION_PHASE_UNSPECIFIED


def describe_end(known: Knowledge) -> str:
    status = known.update.status
    if _has_cancellation(known) and status == "Successful":
        return f"the update has ended {status}: the cancel did not stop it"
    return f"the update has ended {status}"
