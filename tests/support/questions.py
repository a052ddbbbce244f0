"""Questions to a policy, by stage."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from eksgateway.model import Action, Caller, ClusterFacts, ClusterRef, Justification, Update
from eksgateway.policy.question import Question

ACCOUNT, REGION = "111122223333", "us-east-1"
NOW = datetime(2026, 11, 22, 10, 0, 0, tzinfo=UTC)
METHOD = "/eksgateway.v1.UpdateService/CancelUpdate"


def caller(who: str = "jwt:corp:alice", *groups: str, via: str | None = None) -> Caller:
    kind, issuer = ("spiffe", "") if who.startswith("spiffe:") else ("jwt", "https://idp.corp.example")
    return Caller(kind, who, issuer, groups, via)


def at_request(who: Caller, action: str = "cancel", cluster: str = "prod-1", **changes: Any) -> Question:
    """A question at stage request, with a reason and a ticket by default."""
    why = Justification(changes.pop("reason", "bad AMI"), changes.pop("ticket", "OPS-12"))
    question = Question(
        caller=who,
        action=Action(action),
        cluster=ClusterRef(ACCOUNT, REGION, cluster),
        method=METHOD,
        decision_id="d-1",
        time=NOW,
        justification=why,
    )
    return replace(question, **changes)


def at_target(who: Caller, action: str = "list") -> Question:
    """A question at stage target."""
    return at_request(who, action, any_cluster=True)


def at_update(question: Question, kind: str = "VersionRollback", **tags: str) -> Question:
    """The same question at stage update, for an update of this type on a cluster with these tags."""
    arn = f"arn:aws:eks:{REGION}:{ACCOUNT}:cluster/{question.cluster.name}"
    return replace(
        question,
        facts=ClusterFacts(arn, question.cluster.name, "ACTIVE", "1.34", tags),
        update=Update("u-1", "InProgress", kind, created_at=NOW),
    )
