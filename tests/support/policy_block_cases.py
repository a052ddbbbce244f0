"""The table of decisions, continued: each key of a denial and of a freeze."""

from __future__ import annotations

from dataclasses import replace

from support.policy_cases import STRANGER, STRANGER_THERE, during, no, yes
from support.policy_grant_cases import (
    DENIAL,
    FREEZE,
    GRANT,
    NIGHTS,
    alice,
    cancel,
    content,
    denied,
    frozen,
    get,
    ticket,
    update,
)
from support.questions import ACCOUNT, at_request, at_target, at_update, caller

BLOCKED = "Denial block forbids this: See INC-7."
HELD = "Freeze hold forbids cancel on this cluster until 2027-01-01T00:00:00Z."
HELD_NOW = "Freeze hold forbids cancel on this cluster now."
_untimed = {"from": None, "until": None}
_spared = caller("spiffe://corp.example/break-glass")
_both = content([{**GRANT, "subjects": ["spiffe://corp.example/**"]}], [], [{
    **FREEZE, "except_subjects": ["spiffe://corp.example/break-glass"], "except_groups": ["corp:leads"],
}])  # fmt: skip
_production = {"environment": "production"}
_by_tag = frozen(tags={"environment": ["production", "preprod"]})
_by_tags = frozen(tags={"environment": ["production"], "tier": ["1"]})
_by_type = frozen(update_types=["VersionUpdate"])
_nightly = frozen(windows=[NIGHTS], **_untimed)

DENIAL_CASES = [
    no("denial", cancel, "block", BLOCKED, content=denied()),
    no("denial-get", get, "block", BLOCKED, content=denied()),
    no("denial-at-update", update, "block", BLOCKED, content=denied()),
    no("denial-at-target", at_target(alice), "block", BLOCKED, content=denied()),
    no("denial-subject", cancel, "block", BLOCKED, content=denied(groups=["x:y"], subjects=["jwt:corp:*"])),
    yes("denial-of-others", cancel, "base", content=denied(groups=["corp:sales"], subjects=["jwt:corp:bob"])),
    no("denial-stranger", at_request(caller("jwt:x:y", "corp:x")), "", STRANGER,
       content=denied(groups=["corp:x"])),
    no("denial-stranger-at-target", at_target(caller("jwt:x:y", "corp:x")), "", STRANGER_THERE,
       content=denied(groups=["corp:x"])),
    no("denial-cluster", cancel, "block", BLOCKED, content=denied(clusters=["prod-1"])),
    yes("denial-other-cluster", cancel, "base", content=denied(clusters=["prod-10"])),
    yes("denial-except-cluster", cancel, "base", content=denied(except_clusters=["prod-*"])),
    no("denial-except-other-cluster", cancel, "block", BLOCKED, content=denied(except_clusters=["lab"])),
    yes("denial-cluster-at-target", at_target(alice), "base", content=denied(clusters=["*"])),
    yes("denial-except-cluster-at-target", at_target(alice), "base", content=denied(except_clusters=["lab"])),
    no("denial-account", cancel, "block", BLOCKED, content=denied(accounts=[ACCOUNT], regions=["*"])),
    yes("denial-other-account", cancel, "base", content=denied(accounts=["444455556666"])),
    yes("denial-other-region", at_target(alice), "base", content=denied(regions=["us-east-2"])),
    no("denial-everywhere", replace(cancel, cluster=replace(cancel.cluster, name="a/b")), "block", BLOCKED,
       content=content([{**GRANT, "clusters": ["a/**"]}], [DENIAL])),
    no("denial-first-second", cancel, "block", BLOCKED, content=denied(**{"from": "2026-11-22T10:00:00Z"})),
    yes("denial-not-yet", during(cancel, "2026-11-22T09:59:59"), "base",
        content=denied(**{"from": "2026-11-22T10:00:00Z"})),
    no("denial-last-second", during(cancel, "2026-11-22T09:59:59"), "block", BLOCKED,
       content=denied(until="2026-11-22T10:00:00Z")),
    yes("denial-over", cancel, "base", content=denied(until="2026-11-22T10:00:00Z")),
    no("denial-and-freeze", cancel, "block hold", BLOCKED, HELD,
       content=content([GRANT], [DENIAL], [FREEZE])),
    no("denial-and-other-actions", cancel, "base block", BLOCKED, "Grant base does not allow cancel.",
       content=content([{**GRANT, "actions": ["get"]}], [DENIAL])),
    no("denial-and-no-ticket", ticket(""), "base block", "A ticket is required by grant base.", BLOCKED,
       content=content([{**GRANT, "require": ["ticket"]}], [DENIAL])),
]  # fmt: skip

FREEZE_CASES = [
    no("freeze-tag", at_update(cancel, **_production), "hold", HELD, content=_by_tag),
    yes("freeze-tag-other", at_update(cancel, environment="lab"), "base", content=_by_tag),
    yes("freeze-tag-absent", update, "base", content=_by_tag),
    yes("freeze-tag-at-request", cancel, "base", content=_by_tag),
    no("freeze-tags-all", at_update(cancel, tier="1", **_production), "hold", HELD, content=_by_tags),
    yes("freeze-tags-one", at_update(cancel, **_production), "base", content=_by_tags),
    no("freeze-type", at_update(cancel, "VersionUpdate"), "hold", HELD, content=_by_type),
    yes("freeze-type-other", update, "base", content=_by_type),
    yes("freeze-type-at-request", cancel, "base", content=_by_type),
    no("freeze-except-no-subject", at_request(caller("spiffe://corp.example/x")), "hold", HELD,
       content=_both),
    yes("freeze-except-subject", at_request(_spared), "base", content=_both),
    yes("freeze-except-group", at_request(caller("jwt:x:y", "corp:platform", "corp:leads")), "base",
        content=_both),
    yes("freeze-except-cluster", cancel, "base", content=frozen(except_clusters=["*-1", "x"])),
    no("freeze-except-other-cluster", cancel, "hold", HELD, content=frozen(except_clusters=["*-2"])),
    no("freeze-any-account", cancel, "hold", HELD, content=frozen(accounts=["*"], regions=["*"])),
    no("freeze-two-stars", cancel, "hold", HELD, content=frozen(clusters=["p*d-*"])),
    yes("freeze-window-not-yet", during(cancel, "2026-11-21T20:59:59"), "base", content=_nightly),
    no("freeze-window-begins", during(cancel, "2026-11-21T21:00:00"), "hold", HELD_NOW, content=_nightly),
    no("freeze-window-last-second", during(cancel, "2026-11-22T01:29:59"), "hold", HELD_NOW,
       content=_nightly),
    yes("freeze-window-ends", during(cancel, "2026-11-22T01:30:00"), "base", content=_nightly),
    no("freeze-window-clock-back", during(cancel, "2026-10-25T01:29:59"), "hold", HELD_NOW, content=_nightly),
    yes("freeze-window-clock-back-ends", during(cancel, "2026-10-25T01:30:00"), "base", content=_nightly),
    no("freeze-window-beyond-the-years", during(cancel, "2199-01-05T12:00:00"), "hold", HELD_NOW,
       content=_nightly),
    yes("freeze-window-get", during(get, "2026-11-21T21:00:00"), "base", content=_nightly),
    yes("freeze-window-before-from", during(cancel, "2026-11-21T21:00:00"), "base",
        content=frozen(windows=[NIGHTS], until=None, **{"from": "2026-11-21T21:00:01Z"})),
    yes("freeze-window-after-until", during(cancel, "2026-11-21T21:00:00"), "base",
        content=frozen(windows=[NIGHTS], until="2026-11-21T21:00:00Z", **{"from": None})),
    no("freeze-window-before-until", during(cancel, "2026-11-21T21:00:00"), "hold", HELD_NOW,
       content=frozen(windows=[NIGHTS], until="2026-11-21T21:00:01Z", **{"from": None})),
]  # fmt: skip

BLOCK_CASES = [*DENIAL_CASES, *FREEZE_CASES]
