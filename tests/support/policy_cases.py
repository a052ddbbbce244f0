"""The table of decisions: questions and data, with the expected decision, rules and reasons."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from eksgateway.model import ClusterRef
from eksgateway.policy.question import Question
from support.questions import ACCOUNT, REGION, at_request, at_target, at_update, caller

Content = dict[str, Any]

ONCALL = {
    "id": "oncall",
    "subjects": ["spiffe://corp.example/platform/**", "jwt:corp:deploy-bot"],
    "groups": ["corp:platform"],
    "actions": ["cancel", "check", "get", "list", "watch", "history"],
    "accounts": [ACCOUNT],
    "regions": [REGION],
    "clusters": ["prod-*"],
    "tags": {"environment": ["production", "preprod"]},
    "update_types": ["VersionRollback", "VersionUpdate"],
    "require": ["reason", "ticket"],
}
VIEWERS = {
    "id": "viewers",
    "groups": ["corp:*"],
    "actions": ["get", "list", "watch"],
    "accounts": [ACCOUNT],
    "regions": [REGION],
    "clusters": ["*"],
}
ROBOT = {
    "id": "robot",
    "subjects": ["jwt:corp:robot"],
    "via": ["spiffe://corp.example/mesh/**", "spiffe://corp.example/edge"],
    "actions": ["cancel", "watch"],
    "accounts": [ACCOUNT, "444455556666"],
    "regions": [REGION, "eu-central-1"],
    "clusters": ["prod-1", "*-canary"],
    "update_types": ["VersionRollback"],
}
YEAR_END = {
    "id": "year-end",
    "clusters": ["prod-*"],
    "from": "2026-12-20T00:00:00Z",
    "until": "2027-01-03T00:00:00Z",
    "except_groups": ["corp:sre-leads"],
}
ABROAD = {
    "id": "abroad",
    "clusters": ["*"],
    "accounts": ["444455556666"],
    "regions": ["eu-central-1"],
    "from": "2026-01-01T00:00:00Z",
    "until": "2027-01-01T00:00:00Z",
}
CONTENT: Content = {"grants": [ONCALL, VIEWERS, ROBOT], "denials": [], "freezes": [YEAR_END, ABROAD]}


@dataclass(frozen=True)
class Case:
    """A question and its decision. Empty ``reasons`` are not compared."""

    name: str
    question: Question
    allow: bool
    rules: tuple[str, ...]
    reasons: tuple[str, ...]
    content: Content


def yes(name: str, question: Question, *rules: str, content: Content = CONTENT) -> Case:
    return Case(name, question, True, rules, tuple(f"Grant {rule} allows this." for rule in rules), content)


def no(name: str, question: Question, rules: str, *reasons: str, content: Content = CONTENT) -> Case:
    return Case(name, question, False, tuple(rules.split()), reasons, content)


STRANGER = "You have no grant on this cluster."
STRANGER_THERE = "You have no grant in this account and region."
NO_TICKET = "A ticket is required by grant oncall."
NO_REASON = "A reason is required by grant oncall."
TAG = "Grant oncall asks for the cluster's tag environment to be production or preprod."
TYPE = "Grant oncall allows cancel for updates of type VersionRollback or VersionUpdate only."
VIA = "Grant robot asks for a connection that this call did not come over."
YEAR_END_TOLD = "Freeze year-end forbids cancel on this cluster until 2027-01-03T00:00:00Z."

alice = caller("jwt:corp:alice", "corp:platform")
viewer = caller("jwt:corp:vera", "corp:engineering")
lead = caller("jwt:corp:lena", "corp:platform", "corp:sre-leads")
outsider = caller("jwt:other:oscar", "other:platform")
workload = caller("spiffe://corp.example/platform/ns/deploy")
robot = caller("jwt:corp:robot", via="spiffe://corp.example/mesh/ns/a")
production = {"environment": "production"}


def during(question: Question, time: str) -> Question:
    return replace(question, time=datetime.strptime(time, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC))


def there(question: Question, account: str, region: str) -> Question:
    return replace(question, cluster=ClusterRef(account, region, question.cluster.name))


CASES = [
    # Subjects
    yes("group", at_request(alice), "oncall"),
    yes("subject-exact", at_request(caller("jwt:corp:deploy-bot")), "oncall"),
    yes("subject-spiffe-below", at_request(workload), "oncall"),
    yes("subject-spiffe-just-below", at_request(caller("spiffe://corp.example/platform/x")), "oncall"),
    no("subject-spiffe-itself", at_request(caller("spiffe://corp.example/platform")), "", STRANGER),
    no("subject-spiffe-beside", at_request(caller("spiffe://corp.example/platforms/x")), "", STRANGER),
    no("subject-spiffe-foreign", at_request(caller("spiffe://evil.example/platform/x")), "", STRANGER),
    no("subject-longer", at_request(caller("jwt:corp:deploy-bot2")), "", STRANGER),
    no("subject-other-issuer", at_request(caller("jwt:other:deploy-bot")), "", STRANGER),
    no("subject-other-case", at_request(caller("jwt:corp:Deploy-Bot")), "", STRANGER),
    no("subject-named-like-a-group", at_request(caller("corp:platform")), "", STRANGER),
    no("group-other-issuer", at_request(outsider), "", STRANGER),
    no("group-longer", at_request(caller("jwt:a:b", "xcorp:platform")), "", STRANGER),
    no("nobody", at_request(caller("")), "", STRANGER),
    no("star-is-no-slash", at_request(caller("jwt:corp:b", "corp:a/b"), "get"), "", STRANGER),
    yes("star-is-nothing-too", at_request(caller("jwt:corp:b", "corp:"), "get"), "viewers"),
    yes("one-of-several-groups", at_request(caller("jwt:x:y", "a:b", "corp:platform")), "oncall"),
    yes("several-grants", at_request(alice, "get"), "oncall", "viewers"),
    # Actions and resources
    no("viewer-cancels", at_request(viewer), "viewers", "Grant viewers does not allow cancel."),
    no("viewer-checks", at_request(viewer, "check"), "viewers", "Grant viewers does not allow check."),
    no("viewer-history", at_request(viewer, "history"), "viewers", "Grant viewers does not allow history."),
    yes("viewer-gets", at_update(at_request(viewer, "get")), "viewers"),
    yes("viewer-lists", at_request(viewer, "list"), "viewers"),
    yes("viewer-watches", at_update(at_request(viewer, "watch")), "viewers"),
    yes("oncall-history", at_update(at_request(alice, "history"), **production), "oncall"),
    yes("oncall-checks", at_request(alice, "check"), "oncall"),
    # Stage target: any cluster of an account and region
    yes("target", at_target(alice), "oncall", "viewers"),
    yes("target-viewer", at_target(viewer), "viewers"),
    no("target-stranger", at_target(outsider), "", STRANGER_THERE),
    no("target-other-account", there(at_target(alice), "444455556666", REGION), "", STRANGER_THERE),
    no("target-other-region", there(at_target(alice), ACCOUNT, "us-east-2"), "", STRANGER_THERE),
    no("target-other-action", at_target(alice, "cancel"), "", STRANGER_THERE),
    no("target-grant-without-list", at_target(robot), "robot", "Grant robot does not allow list."),
    # Account, region and cluster
    no("other-account", there(at_request(alice), "444455556666", REGION), "", STRANGER),
    no("other-region", there(at_request(alice), ACCOUNT, "us-east-2"), "", STRANGER),
    no("account-longer", there(at_request(alice), ACCOUNT + "0", REGION), "", STRANGER),
    no(
        "cluster-of-others",
        at_request(alice, cluster="staging-1"),
        "viewers",
        "Grant viewers does not allow cancel.",
    ),
    no("cluster-malformed", at_request(alice, cluster="prod-1/../x"), "", STRANGER),
    no("cluster-empty", at_request(outsider, cluster=""), "", STRANGER),
    yes("cluster-exact", there(at_request(robot), ACCOUNT, "eu-central-1"), "robot"),
    yes("cluster-star-first", at_request(robot, cluster="a-canary"), "robot"),
    no("cluster-star-first-longer", at_request(robot, cluster="a-canary-2"), "", STRANGER),
    # Via
    no("via-missing", at_request(replace(robot, via=None)), "robot", VIA),
    no("via-other", at_request(replace(robot, via="spiffe://corp.example/mesh")), "robot", VIA),
    yes("via-exact", at_request(replace(robot, via="spiffe://corp.example/edge")), "robot"),
    yes("via-not-asked-for", at_request(replace(alice, via="spiffe://evil.example/x")), "oncall"),
    # Required
    no("no-ticket", at_request(alice, ticket=""), "oncall", NO_TICKET),
    no("blank-ticket", at_request(alice, ticket=" \t\r\n"), "oncall", NO_TICKET),
    no("no-reason", at_request(alice, reason=""), "oncall", NO_REASON),
    no("neither", at_request(alice, reason=" ", ticket=""), "oncall", NO_REASON, NO_TICKET),
    no("no-ticket-at-update", at_update(at_request(alice, ticket=""), **production), "oncall", NO_TICKET),
    yes("not-required-to-get", at_request(alice, "watch", reason="", ticket=""), "oncall", "viewers"),
    yes("not-required-by-grant", at_request(robot, reason="", ticket=""), "robot"),
    # Stage update
    yes("update", at_update(at_request(alice), **production), "oncall"),
    yes("update-other-tag-value", at_update(at_request(alice), environment="preprod"), "oncall"),
    yes("update-more-tags", at_update(at_request(alice), a="b", **production), "oncall"),
    no("update-tag-missing", at_update(at_request(alice)), "oncall", TAG),
    no("update-tag-wrong", at_update(at_request(alice), environment="lab"), "oncall", TAG),
    no("update-tag-longer", at_update(at_request(alice), environment="production2"), "oncall", TAG),
    no("update-type", at_update(at_request(alice), "AddonUpdate", **production), "oncall", TYPE),
    no("update-type-case", at_update(at_request(alice), "versionrollback", **production), "oncall", TYPE),
    no("update-type-new", at_update(at_request(alice), "QuantumUpdate", **production), "oncall", TYPE),
    no("update-all-wrong", at_update(at_request(alice, ticket=""), "X"), "oncall", NO_TICKET, TYPE, TAG),
    yes("update-type-for-get", at_update(at_request(alice, "get"), "X", **production), "oncall", "viewers"),
    yes("update-tag-for-get", at_update(at_request(alice, "get"), environment="lab"), "viewers"),
    no("update-tag-for-history", at_update(at_request(alice, "history")), "oncall", TAG),
    # Freezes
    no("frozen", during(at_request(alice), "2026-12-24T18:00:00"), "year-end", YEAR_END_TOLD),
    no(
        "frozen-at-update",
        during(at_update(at_request(alice), **production), "2026-12-24T18:00:00"),
        "year-end",
        YEAR_END_TOLD,
    ),
    no("frozen-first-second", during(at_request(alice), "2026-12-20T00:00:00"), "year-end", YEAR_END_TOLD),
    no("frozen-last-second", during(at_request(alice), "2027-01-02T23:59:59"), "year-end", YEAR_END_TOLD),
    yes("frozen-not-yet", during(at_request(alice), "2026-12-19T23:59:59"), "oncall"),
    yes("frozen-no-more", during(at_request(alice), "2027-01-03T00:00:00"), "oncall"),
    yes("frozen-excepted", during(at_request(lead), "2026-12-24T18:00:00"), "oncall"),
    yes("frozen-get", during(at_request(viewer, "get"), "2026-12-24T18:00:00"), "viewers"),
    yes("frozen-check", during(at_request(alice, "check"), "2026-12-24T18:00:00"), "oncall"),
    yes(
        "frozen-other-cluster",
        during(at_request(robot, cluster="a-canary"), "2026-12-24T18:00:00"),
        "robot",
    ),
    no("frozen-stranger", during(at_request(outsider), "2026-12-24T18:00:00"), "", STRANGER),
    no(
        "frozen-viewer",
        during(at_request(viewer), "2026-12-24T18:00:00"),
        "viewers",
        "Grant viewers does not allow cancel.",
    ),
    no(
        "frozen-and-no-ticket",
        during(at_request(alice, ticket=""), "2026-12-24T18:00:00"),
        "oncall year-end",
        NO_TICKET,
        YEAR_END_TOLD,
    ),
    no(
        "frozen-abroad",
        there(at_request(robot), "444455556666", "eu-central-1"),
        "abroad",
        "Freeze abroad forbids cancel on this cluster until 2027-01-01T00:00:00Z.",
    ),
    yes("frozen-other-region", there(at_request(robot), "444455556666", REGION), "robot"),
    yes("frozen-other-account", there(at_request(robot), ACCOUNT, "eu-central-1"), "robot"),
    no("no-entries", at_request(alice), "", STRANGER, content={"grants": [], "denials": [], "freezes": []}),
    yes("no-freezes", at_request(alice), "oncall", content={**CONTENT, "freezes": []}),
]  # fmt: skip
