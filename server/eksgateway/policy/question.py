"""The policy's input as a typed question, in the shape of AuthZEN 1.0."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from eksgateway.model import (
    NO_JUSTIFICATION,
    Action,
    Caller,
    ClusterFacts,
    ClusterRef,
    Intent,
    Justification,
    Update,
)

Stage = Literal["target", "request", "update"]
_UTC_SECONDS: Final = "%Y-%m-%dT%H:%M:%SZ"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Question:
    """May ``caller`` do ``action``? Built from verified facts only.

    With ``any_cluster``: may ``caller`` list any cluster of the account and region? ``action`` may differ
    from that of ``method``: CheckCancelUpdate asks about ``cancel``.
    """

    caller: Caller
    action: Action
    cluster: ClusterRef
    method: str
    decision_id: str
    time: datetime
    justification: Justification = NO_JUSTIFICATION
    facts: ClusterFacts | None = None
    update: Update | None = None
    any_cluster: bool = False

    @property
    def stage(self) -> Stage:
        if self.any_cluster:
            return "target"
        return "request" if self.facts is None or self.update is None else "update"

    def to_input(self) -> dict[str, Any]:
        """The policy's ``input`` (policies/schemas/input.json)."""
        return {
            "subject": {
                "type": self.caller.type,
                "id": self.caller.id,
                "properties": {
                    "issuer": self.caller.issuer,
                    "groups": list(self.caller.groups),
                    "via": self.caller.via,
                    "claims": {claim.name: list(claim.values) for claim in self.caller.claims},
                },
            },
            "action": {"name": self.action.value, "properties": asdict(self.justification)},
            "resource": self._resource(),
            "context": {
                "stage": self.stage,
                "time": utc_seconds(self.time),
                "seconds": posix_seconds(self.time),
                "method": self.method,
                "decision_id": self.decision_id,
            },
        }

    def _resource(self) -> dict[str, Any]:
        properties: dict[str, Any] = {"account_id": self.cluster.account_id, "region": self.cluster.region}
        if self.any_cluster:
            where = f"{self.cluster.account_id}/{self.cluster.region}"
            return {"type": "eks_target", "id": where, "properties": properties}
        properties["cluster"] = self.cluster.name
        if self.facts is None or self.update is None:
            return {"type": "eks_cluster", "id": str(self.cluster), "properties": properties}
        update = self.update
        properties |= {
            "tags": dict(self.facts.tags),
            "cluster_status": self.facts.status,
            "version": self.facts.version,
            "update": {
                "id": update.id,
                "type": update.type,
                "status": update.status,
                "created_at": utc_seconds(update.created_at) if update.created_at else None,
                "age_s": age_at(self.time, update.created_at),
                "cancellation_status": update.cancellation.status if update.cancellation else None,
            },
        }
        return {"type": "eks_update", "id": f"{self.cluster}/{update.id}", "properties": properties}


def question_of(intent: Intent, method: str) -> Question:
    """The question of an intent's decision. ``method`` is for ledgers without one."""
    return Question(
        caller=intent.caller,
        action=Action.CANCEL,
        cluster=intent.request.ref.cluster,
        method=intent.method or method,
        decision_id=intent.decision.decision_id,
        time=intent.decision_time or intent.time,
        justification=intent.request.justification,
        facts=intent.cluster,
        update=intent.update,
    )


def age_at(time: datetime, created_at: datetime | None) -> int | None:
    """In seconds, as between the two times' texts. Negative if clocks differ, None if it is not known."""
    return posix_seconds(time) - posix_seconds(created_at) if created_at else None


def posix_seconds(time: datetime) -> int:
    """Of the same second as ``utc_seconds``."""
    return (time - _EPOCH) // timedelta(seconds=1)


def utc_seconds(time: datetime) -> str:
    """``YYYY-MM-DDThh:mm:ssZ``: a form in which times compare as strings."""
    return time.astimezone(UTC).strftime(_UTC_SECONDS)
