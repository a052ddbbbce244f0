"""Small valid model objects, varied by keyword."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from eksgateway.model import (
    Caller,
    CancelRequest,
    Claim,
    ClusterFacts,
    ClusterRef,
    Decision,
    Denial,
    Intent,
    Justification,
    Observation,
    Outcome,
    OutcomeKind,
    Update,
    UpdateCancellation,
    UpdateRef,
)

START = datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)
_AFTER_ALL_EVENTS = datetime(2200, 1, 1, tzinfo=UTC)
CLUSTER = ClusterRef("111122223333", "us-east-1", "payments")


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def update(status: str = "InProgress", *, cancellation: str = "", id: str = "u-1") -> Update:  # noqa: A002 (EKS's name)
    block = UpdateCancellation(cancellation, "because") if cancellation else None
    return Update(id=id, status=status, type="VersionRollback", created_at=START, cancellation=block)


def ref(update_id: str = "u-1", cluster: ClusterRef = CLUSTER) -> UpdateRef:
    return UpdateRef(cluster, update_id)


def caller(name: str = "ann") -> Caller:
    return Caller("user", f"jwt:corp:{name}", "https://issuer.example", ("corp:oncall",), None, at(3600))


def caller_with_claims(name: str = "ann") -> Caller:
    return replace(caller(name), claims=(Claim("repository", ("corp/payments-app",)),))


def intent(name: str = "1", **changes: Any) -> Intent:
    """An intent whose cancellation, request and decision are named after ``name``."""
    fields: dict[str, Any] = {
        "cancellation_id": f"cancellation-{name}",
        "request_id": f"request-{name}",
        "caller": caller(),
        "request": CancelRequest(ref(), Justification("it is broken", "INC-1")),
        "update": update(),
        "cluster": ClusterFacts(
            "arn:aws:eks:us-east-1:111122223333:cluster/payments", "payments", "ACTIVE", "1.33"
        ),
        "decision": decision(name),
        "token": f"token-{name}",
        "time": START,
    }
    return Intent(**fields | changes)


def decision(name: str = "1") -> Decision:
    return Decision(f"decision-{name}", True, ("grants/oncall",), (), "r1")


def outcome(kind: OutcomeKind = OutcomeKind.ACCEPTED, **changes: Any) -> Outcome:
    fields: dict[str, Any] = {"kind": kind, "time": at(1)}
    return Outcome(**fields | changes)


def observation(seen: Update | None, *, seconds: float = 2, note: str = "") -> Observation:
    """Newer than any event that a test writes."""
    return Observation(_AFTER_ALL_EVENTS + timedelta(seconds=seconds), seen, note)


def denial(name: str = "1", **changes: Any) -> Denial:
    fields: dict[str, Any] = {
        "time": START,
        "request_id": f"request-{name}",
        "caller": caller(),
        "request": CancelRequest(ref()),
        "decision": Decision(f"decision-{name}", False, (), ("no grant",), "r1"),
        "stage": "request",
        "policy_input": {"action": "cancel"},
    }
    return Denial(**fields | changes)
