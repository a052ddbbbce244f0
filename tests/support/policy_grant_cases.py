"""The table of decisions, continued: each key of a grant with an allow, a denial and its edge."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from eksgateway.model import Claim
from eksgateway.policy.question import Question
from support.policy_cases import STRANGER, Content, during, no, there, yes
from support.questions import ACCOUNT, NOW, REGION, at_request, at_target, at_update, caller

GRANT = {
    "id": "base",
    "groups": ["corp:platform"],
    "actions": ["cancel", "check", "get", "list", "watch", "history"],
    "accounts": [ACCOUNT],
    "regions": [REGION],
    "clusters": ["prod-*"],
    "update_types": ["VersionRollback", "VersionUpdate"],
}
DENIAL = {"id": "block", "groups": ["corp:platform"], "reason": "See INC-7."}
FREEZE = {"id": "hold", "clusters": ["*"], "from": "2026-01-01T00:00:00Z", "until": "2027-01-01T00:00:00Z"}
NIGHTS = {"days": ["sat"], "from": "22:00", "until": "02:30", "zone": "Europe/Berlin"}
WEEKEND = {"days": ["sat", "sun"], "zone": "UTC"}

ENDED = "Grant base ended at 2026-11-22T10:00:00Z."
BEGINS = "Grant base begins at 2026-11-22T10:00:00Z."
OUTSIDE = "Grant base is outside its windows."
CLAIM = "Grant base asks for the token's claim ref to be refs/heads/main or refs/tags/*."
TEAM = "Grant base asks for the cluster's tag team to name one of your groups."
VERSION = "Grant base asks for the cluster's version to be 1.34 or 1.2*."
AGE = "Grant base asks for an update that is older than 2h."
TICKET = "Grant base asks for a ticket like OPS-# or https://t.example/*."

alice = caller("jwt:corp:alice", "corp:platform")
cancel = at_request(alice)
update = at_update(cancel)
get = at_request(alice, "get")


def content(grants: list[Any], denials: list[Any] | None = None, freezes: list[Any] | None = None) -> Content:
    return {"grants": grants, "denials": denials or [], "freezes": freezes or []}


def granted(**members: Any) -> Content:
    """One grant, changed."""
    return content([{**GRANT, **members}])


def denied(**members: Any) -> Content:
    """The grant and one denial, changed."""
    return content([GRANT], [{**DENIAL, **members}])


def frozen(**members: Any) -> Content:
    """The grant and one freeze, changed. A member that is None is left out."""
    freeze = {key: value for key, value in {**FREEZE, **members}.items() if value is not None}
    return content([GRANT], [], [freeze])


def claiming(*values: str, name: str = "ref") -> Question:
    return replace(cancel, caller=replace(alice, claims=(Claim(name, values),)))


def in_groups(*groups: str, **tags: str) -> Question:
    return at_update(at_request(caller("jwt:corp:alice", "corp:platform", *groups), "get"), **tags)


def version(text: str) -> Question:
    assert update.facts is not None
    return replace(update, facts=replace(update.facts, version=text))


def aged(seconds: int | None) -> Question:
    assert update.update is not None
    created_at = None if seconds is None else NOW - timedelta(seconds=seconds)
    return replace(update, update=replace(update.update, created_at=created_at))


def ticket(text: str) -> Question:
    return at_request(alice, ticket=text)


_from, _until = granted(**{"from": "2026-11-22T10:00:00Z"}), granted(until="2026-11-22T10:00:00Z")
_nights, _weekend = granted(windows=[NIGHTS]), granted(windows=[WEEKEND])
_claims = granted(claims={"ref": ["refs/heads/main", "refs/tags/*"]})
_pci = granted(clusters=["*-pci-*"])
_team = granted(group_tags={"team": "corp:*"})
_versions, _age = granted(versions=["1.34", "1.2*"]), granted(older_than="2h")
_tickets = granted(ticket_patterns=["OPS-#", "https://t.example/*"])
_no_pci = granted(clusters=["*"], except_clusters=["*-pci-*", "lab"])

GRANT_CASES = [
    # From and until
    yes("from-first-second", cancel, "base", content=_from),
    no("from-not-yet", during(cancel, "2026-11-22T09:59:59"), "base", BEGINS, content=_from),
    no("from-not-yet-for-get", during(get, "2026-11-22T09:59:59"), "base", BEGINS, content=_from),
    no("from-not-yet-at-target", during(at_target(alice), "2026-11-22T09:59:59"), "base", BEGINS,
       content=_from),
    yes("until-last-second", during(cancel, "2026-11-22T09:59:59"), "base", content=_until),
    no("until-ended", cancel, "base", ENDED, content=_until),
    no("until-ended-at-update", update, "base", ENDED, content=_until),
    # Windows. 2026-11-22 is a Sunday; on 2026-10-25 Berlin goes from +2 to +1 at 01:00Z.
    yes("window-day", cancel, "base", content=_weekend),
    yes("window-day-last-second", during(cancel, "2026-11-22T23:59:59"), "base", content=_weekend),
    no("window-day-over", during(cancel, "2026-11-23T00:00:00"), "base", OUTSIDE, content=_weekend),
    no("window-for-get", during(get, "2026-11-23T00:00:00"), "base", OUTSIDE, content=_weekend),
    no("window-at-target", during(at_target(alice), "2026-11-23T00:00:00"), "base", OUTSIDE,
       content=_weekend),
    no("window-not-yet", during(cancel, "2026-11-21T20:59:59"), "base", OUTSIDE, content=_nights),
    yes("window-begins", during(cancel, "2026-11-21T21:00:00"), "base", content=_nights),
    yes("window-runs-into-sunday", during(cancel, "2026-11-22T01:29:59"), "base", content=_nights),
    no("window-ends", during(cancel, "2026-11-22T01:30:00"), "base", OUTSIDE, content=_nights),
    no("window-of-no-sunday", during(cancel, "2026-11-22T21:00:00"), "base", OUTSIDE, content=_nights),
    yes("window-in-summer", during(cancel, "2026-10-24T20:00:00"), "base", content=_nights),
    yes("window-clock-back-before", during(cancel, "2026-10-25T00:29:59"), "base", content=_nights),
    no("window-clock-back-after", during(cancel, "2026-10-25T00:30:00"), "base", OUTSIDE, content=_nights),
    no("window-clock-back-later", during(cancel, "2026-10-25T01:15:00"), "base", OUTSIDE, content=_nights),
    no("window-beyond-the-years", during(cancel, "2199-01-05T12:00:00"), "base", OUTSIDE, content=_weekend),
    # Clusters, accounts, regions
    yes("except-cluster-other", at_request(alice, cluster="prod-1"), "base", content=_no_pci),
    no("except-cluster", at_request(alice, cluster="prod-pci-1"), "", STRANGER, content=_no_pci),
    no("except-cluster-exact", at_request(alice, cluster="lab"), "", STRANGER, content=_no_pci),
    yes("except-cluster-longer", at_request(alice, cluster="lab-2"), "base", content=_no_pci),
    yes("except-cluster-at-target", at_target(alice), "base", content=granted(except_clusters=["*"])),
    yes("two-stars", at_request(alice, cluster="a-pci-b"), "base", content=_pci),
    yes("two-stars-nothing", at_request(alice, cluster="-pci-"), "base", content=_pci),
    no("two-stars-no-middle", at_request(alice, cluster="pci"), "", STRANGER, content=_pci),
    no("two-stars-overlap", at_request(alice, cluster="aba"), "", STRANGER,
       content=granted(clusters=["ab*b*a"])),
    no("two-stars-slash", at_request(alice, cluster="a/-pci-b"), "", STRANGER, content=_pci),
    yes("two-stars-middle-slash", at_request(alice, cluster="a/b"), "base",
        content=granted(clusters=["*/*"])),
    yes("any-account", there(cancel, "444455556666", REGION), "base", content=granted(accounts=["*"])),
    no("any-account-other-region", there(cancel, "444455556666", "us-east-2"), "", STRANGER,
       content=granted(accounts=["*"])),
    yes("any-region", there(cancel, ACCOUNT, "us-east-2"), "base", content=granted(regions=["*"])),
    yes("any-target", there(at_target(alice), "444455556666", "us-east-2"), "base",
        content=granted(accounts=["*"], regions=["*"])),
    # Claims
    yes("claim", claiming("refs/heads/main"), "base", content=_claims),
    yes("claim-pattern", claiming("x", "refs/tags/v1"), "base", content=_claims),
    no("claim-slash", claiming("refs/tags/v1/2"), "base", CLAIM, content=_claims),
    no("claim-absent", cancel, "base", CLAIM, content=_claims),
    no("claim-empty", claiming(), "base", CLAIM, content=_claims),
    no("claim-of-another-name", claiming("refs/heads/main", name="branch"), "base", CLAIM, content=_claims),
    no("claim-for-get", get, "base", CLAIM, content=_claims),
    no("claim-at-target", at_target(alice), "base", CLAIM, content=_claims),
    # Tags that name a group
    yes("group-tag", in_groups("corp:payments", team="payments"), "base", content=_team),
    no("group-tag-of-others", in_groups("corp:payments", team="search"), "base", TEAM, content=_team),
    no("group-tag-other-issuer", in_groups("dev:payments", team="payments"), "base", TEAM, content=_team),
    no("group-tag-absent", in_groups("corp:payments"), "base", TEAM, content=_team),
    no("group-tag-empty", in_groups("corp:", team=""), "base", TEAM, content=_team),
    no("group-tag-star", in_groups("corp:payments", team="*"), "base", TEAM, content=_team),
    yes("group-tag-at-request", get, "base", content=_team),
    # Version and age
    yes("version", version("1.34"), "base", content=_versions),
    yes("version-pattern", version("1.29"), "base", content=_versions),
    no("version-other", version("1.340"), "base", VERSION, content=_versions),
    no("version-empty", version(""), "base", VERSION, content=_versions),
    no("version-for-get", at_update(get), "base", VERSION.replace("1.34 or", "1.35 or"),
       content=granted(versions=["1.35", "1.2*"])),
    yes("version-at-request", cancel, "base", content=_versions),
    yes("older", aged(7201), "base", content=_age),
    no("older-edge", aged(7200), "base", AGE, content=_age),
    no("older-unknown", aged(None), "base", AGE, content=_age),
    no("older-created-in-the-future", aged(-9000), "base", AGE, content=_age),
    yes("older-at-request", cancel, "base", content=_age),
    # Tickets
    yes("ticket-digits", ticket("OPS-12"), "base", content=_tickets),
    yes("ticket-address", ticket("https://t.example/A-1"), "base", content=_tickets),
    no("ticket-other", ticket("OPS-12x"), "base", TICKET, content=_tickets),
    no("ticket-no-digit", ticket("OPS-"), "base", TICKET, content=_tickets),
    no("ticket-other-digits", ticket("OPS-٣"), "base", TICKET, content=_tickets),
    no("ticket-literally", ticket("OPS-#"), "base", TICKET, content=_tickets),
    no("ticket-slash", ticket("https://t.example/a/b"), "base", TICKET, content=_tickets),
    no("ticket-absent", ticket(" "), "base", TICKET, content=_tickets),
    no("ticket-at-update", at_update(ticket("x")), "base", TICKET, content=_tickets),
    yes("ticket-not-for-get", at_request(alice, "get", ticket=""), "base", content=_tickets),
    # Remarks
    yes("owner-and-note", cancel, "base", content=granted(owner="team-platform", note="why")),
]  # fmt: skip
