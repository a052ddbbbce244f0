"""The check of policy data: each fault has its path and how to correct it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from support.policy_cases import CONTENT
from support.policy_parsing import find_faults

Change = Callable[[Any], object]

EVENINGS = {"days": ["mon", "fri"], "from": "22:00", "until": "06:00", "zone": "Europe/Berlin"}
BLOCKED: dict[str, Any] = {
    "id": "blocked",
    "subjects": ["jwt:corp:robot"],
    "reason": "Compromised, see INC-7.",
}


def _grant(**changes: Any) -> Change:
    return lambda content: content["grants"][0].update(changes)


def _freeze(**changes: Any) -> Change:
    return lambda content: content["freezes"][0].update(changes)


def _denial(**changes: Any) -> Change:
    return lambda content: content.update(denials=[{**BLOCKED, **changes}])


def _window(**changes: Any) -> Change:
    return _freeze(windows=[{**EVENINGS, **changes}])


def _without(part: str, *keys: str) -> Change:
    return lambda content: [content[part][0].pop(key) for key in keys]


GOOD: dict[str, Change] = {
    "excepted clusters": _grant(clusters=["prod-*", "*-a-*"], except_clusters=["prod-pci-*", "x/**"]),
    "all accounts and regions": _grant(accounts=["*"], regions=["*"]),
    "claims": _grant(claims={"repository": ["corp/*"], "ref": ["refs/heads/main"]}),
    "from alone": _grant(**{"from": "2026-11-30T08:00:00Z"}),
    "until alone": _grant(until="2026-12-07T08:00:00Z"),
    "windows of a grant": _grant(windows=[EVENINGS, {"zone": "UTC"}]),
    "tags without a tag": _grant(tags={}),
    "tag of a group": _grant(group_tags={"team": "corp:*", "owner": "corp:team-*-oncall"}),
    "versions": _grant(versions=["1.31", "1.2*"]),
    "duration": _grant(older_than="2h"),
    "forms of a ticket": _grant(
        require=["ticket"], ticket_patterns=["OPS-#", "https://t.corp.example/browse/*", "NONE"]
    ),
    "owner and note": _grant(owner="team-platform", note="Until the migration ends.\nThen none."),
    "denial": _denial(),
    "denial with all keys": _denial(
        groups=["corp:bots"],
        accounts=["*"],
        regions=["us-east-1"],
        clusters=["prod-*"],
        except_clusters=["prod-1"],
        owner="a",
        note="b",
        **{"from": "2026-11-30T08:00:00Z", "until": "2026-12-07T08:00:00Z"},
    ),
    "window of whole days": _freeze(windows=[{"days": ["sat"], "zone": "UTC"}]),
    "window until midnight": _window(until="24:00"),
    "window of a day": _window(until="22:00"),
    "freeze with windows alone": lambda c: c["freezes"].append(
        {"id": "nights", "clusters": ["*"], "windows": [EVENINGS]}
    ),
    "freeze with windows and until": lambda c: c["freezes"].append(
        {"id": "nights", "clusters": ["*"], "windows": [EVENINGS], "until": "2027-01-01T00:00:00Z"}
    ),
    "freeze by tag and type": _freeze(tags={"environment": ["production"]}, update_types=["VersionUpdate"]),
    "freeze that spares": _freeze(
        except_subjects=["spiffe://corp.example/break-glass"], except_clusters=["dev-*"]
    ),
    "no freezes": lambda c: c.pop("freezes"),
    "no grant": lambda c: c["grants"].clear(),
}


@pytest.mark.parametrize("change", GOOD.values(), ids=GOOD.keys())
def test_every_form_of_the_language_has_no_faults(change: Change) -> None:
    content = copy.deepcopy(CONTENT)
    change(content)
    assert find_faults({"eksgateway": content}) == ()


FAULTS: dict[str, tuple[Change, str]] = {
    "unknown-action": (
        _grant(actions=["cancle"]),
        "eksgateway.grants[0].actions[0]: 'cancle' is not one of cancel, check, get, list, watch, history",
    ),
    "misspelt-key": (
        _grant(requires=["ticket"]),
        "eksgateway.grants[0].requires: is not known here; is require meant?",
    ),
    "unknown-key": (
        _grant(colour="red"),
        "eksgateway.grants[0].colour: is not known here; the keys are id, subjects",
    ),
    "misspelt-part": (
        lambda c: c.update(freeze=[]),
        "eksgateway.freeze: is not known here; is freezes meant?",
    ),
    "missing-key": (lambda c: c["grants"][0].pop("regions"), "eksgateway.grants[0].regions: is missing"),
    "no-grants": (lambda c: c.pop("grants"), "eksgateway.grants: is missing"),
    "freezes-empty": (lambda c: c.update(freezes=None), "eksgateway.freezes: must be a list, and is empty"),
    "text-for-list": (
        _grant(clusters="prod-*"),
        "eksgateway.grants[0].clusters: must be a list, and is 'prod-*'",
    ),
    "empty-list": (_grant(groups=[]), "eksgateway.grants[0].groups: is empty"),
    "number": (_grant(accounts=[5]), "eksgateway.grants[0].accounts[0]: 5 without quotes is a number"),
    "short-account": (
        _grant(accounts=["12"]),
        "accounts[0]: '12' is not understood; an account has 12 digits",
    ),
    "account-newline": (
        _grant(accounts=["111122223333\n"]),
        "accounts[0]: '111122223333\\n' is not understood",
    ),
    "region": (
        _grant(regions=["us-east"]),
        "regions[0]: 'us-east' is not understood; a region is written as",
    ),
    "double-star-inside": (_grant(groups=["a/**/b"]), "groups[0]: 'a/**/b' is not understood"),
    "double-star-glued": (_grant(clusters=["a**"]), "clusters[0]: 'a**' is not understood"),
    "double-star-for-a-kind": (_grant(subjects=["jwt:**"]), "subjects[0]: 'jwt:**' is not understood"),
    "star-twice": (_grant(subjects=["spiffe://a/*/**"]), "subjects[0]: 'spiffe://a/*/**' is not understood"),
    "subject-of-no-kind": (_grant(subjects=["bot"]), "subjects[0]: 'bot' is not understood; a pattern over"),
    "id-with-space": (_grant(id="a b"), "eksgateway.grants[0].id: 'a b' is not understood"),
    "tags-flat": (_grant(tags={"env": "prod"}), "grants[0].tags.env: must be a list, and is 'prod'"),
    "require": (_grant(require=["approval"]), "require[0]: 'approval' is not one of reason, ticket"),
    "cancel-without-types": (
        lambda c: c["grants"][0].pop("update_types"),
        "eksgateway.grants[0].update_types: is missing; list the update types",
    ),
    "grant without a caller": (
        lambda c: [c["grants"][0].pop(key) for key in ("subjects", "groups")],
        "eksgateway.grants[0]: names no caller; give it subjects or groups",
    ),
    "same-id": (
        lambda c: c["grants"].append(c["grants"][1]),
        "eksgateway.grants[3].id: 'viewers' is the id of",
    ),
    "freeze-named-as-grant": (
        _freeze(id="oncall"),
        "eksgateway.freezes[0].id: 'oncall' is the id of eksgateway.g",
    ),
    "ends-before-it-begins": (
        _freeze(until="2026-12-19T00:00:00Z"),
        "eksgateway.freezes[0].until: is not after from ('2026-12-20T00:00:00Z')",
    ),
    "no-length": (_freeze(until="2026-12-20T00:00:00Z"), "eksgateway.freezes[0].until: is not after from"),
    "no-such-date": (
        _freeze(**{"from": "2026-13-40T00:00:00Z"}),
        "eksgateway.freezes[0].from: '2026-13-40T00:00:00Z' is no time that exists",
    ),
    "no-such-hour": (
        _freeze(until="2026-12-31T24:01:00Z"),
        "until: '2026-12-31T24:01:00Z' is no time that exists",
    ),
    "offset": (
        _freeze(until="2027-01-03T00:00:00+01:00"),
        "freezes[0].until: '2027-01-03T00:00:00+01:00' is not",
    ),
    "day-only": (_freeze(until="2027-01-03"), "until: '2027-01-03' is not understood; times are UTC"),
    "grant-number": (lambda c: c["grants"].append(5), "eksgateway.grants[3]: must be a mapping, and is 5"),
    "star with an account": (
        _grant(accounts=["1111*"]),
        "accounts[0]: '1111*' is not understood; an account has 12",
    ),
    "star with a region": (
        _grant(regions=["eu-*"]),
        "regions[0]: 'eu-*' is not understood; a region is written as",
    ),
    "three stars": (
        _grant(clusters=["a*b*c*"]),
        "clusters[0]: 'a*b*c*' is not understood; a pattern is exact",
    ),
    "star before two stars": (_grant(clusters=["a*/**"]), "clusters[0]: 'a*/**' is not understood"),
    "excepted cluster": (
        _grant(except_clusters=["**"]),
        "grants[0].except_clusters[0]: '**' is not understood",
    ),
    "grant that ends before it begins": (
        _grant(**{"from": "2026-12-07T08:00:00Z", "until": "2026-11-30T08:00:00Z"}),
        "eksgateway.grants[0].until: is not after from ('2026-12-07T08:00:00Z')",
    ),
    "denial that ends before it begins": (
        _denial(**{"from": "2026-12-07T08:00:00Z", "until": "2026-12-07T08:00:00Z"}),
        "eksgateway.denials[0].until: is not after from",
    ),
    "date of no leap year": (
        _grant(until="2026-02-29T00:00:00Z"),
        "grants[0].until: '2026-02-29T00:00:00Z' is no time",
    ),
    "second that does not exist": (
        _denial(until="2026-12-31T23:59:60Z"),
        "denials[0].until: '2026-12-31T23:59:60Z' is no",
    ),
    "unknown zone": (
        _window(zone="Europe/Berln"),
        "freezes[0].windows[0].zone: 'Europe/Berln' is not a known time zone",
    ),
    "zone of another kind": (
        _window(zone="posix/Europe/Berlin"),
        "windows[0].zone: 'posix/Europe/Berlin' is not a known",
    ),
    "zone as a path": (
        _window(zone="../etc/passwd"),
        "windows[0].zone: '../etc/passwd' is not a known time zone",
    ),
    "window without a zone": (
        _freeze(windows=[{"days": ["sat"]}]),
        "eksgateway.freezes[0].windows[0].zone: is missing",
    ),
    "day": (
        _window(days=["monday"]),
        "windows[0].days[0]: 'monday' is not one of mon, tue, wed, thu, fri, sat, sun",
    ),
    "no days": (_window(days=[]), "windows[0].days: is empty"),
    "no windows": (_freeze(windows=[]), "freezes[0].windows: is empty"),
    "hour that does not exist": (
        _window(**{"from": "24:00"}),
        "windows[0].from: '24:00' is not understood; local times",
    ),
    "minute that does not exist": (
        _window(until="06:60"),
        "windows[0].until: '06:60' is not understood; local times",
    ),
    "time without a zero": (_window(until="6:00"), "windows[0].until: '6:00' is not understood"),
    "from of a window alone": (
        _freeze(windows=[{"from": "22:00", "zone": "UTC"}]),
        "freezes[0].windows[0].until: is missing; write both times, or neither",
    ),
    "until of a window alone": (
        _freeze(windows=[{"until": "22:00", "zone": "UTC"}]),
        "freezes[0].windows[0].from: is missing; write both times, or neither",
    ),
    "freeze without until": (
        _without("freezes", "until"),
        "eksgateway.freezes[0].until: is missing; write from and until, or windows",
    ),
    "denial without a reason": (
        lambda c: c.update(denials=[{"id": "blocked", "groups": ["corp:a"]}]),
        "eksgateway.denials[0].reason: is missing",
    ),
    "blank reason": (_denial(reason="  "), "denials[0].reason: '  ' is not understood; a reason is one line"),
    "reason of two lines": (
        _denial(reason="a\nb"),
        "denials[0].reason: 'a\\nb' is not understood; a reason is one",
    ),
    "long reason": (_denial(reason="a" * 301), "denials[0].reason: 'aaa"),
    "denial without a caller": (
        lambda c: c.update(denials=[{"id": "blocked", "reason": "a"}]),
        "eksgateway.denials[0]: names no caller; give it subjects or groups",
    ),
    "denial named as a freeze": (
        _denial(id="year-end"),
        "eksgateway.freezes[0].id: 'year-end' is the id of eksgateway.d",
    ),
    "actions of a denial": (_denial(actions=["cancel"]), "eksgateway.denials[0].actions: is not known here"),
    "tag of a group without a star": (
        _grant(group_tags={"team": "corp:team"}),
        "group_tags.team: 'corp:team' is not",
    ),
    "tag of a group with two stars": (
        _grant(group_tags={"team": "corp:*-*"}),
        "group_tags.team: 'corp:*-*' is not",
    ),
    "tag of a group of any issuer": (
        _grant(group_tags={"team": "*"}),
        "group_tags.team: '*' is not understood; write the",
    ),
    "star for the issuer": (
        _grant(group_tags={"team": "*:a"}),
        "grants[0].group_tags.team: '*:a' is not understood",
    ),
    "no tags of groups": (_grant(group_tags={}), "eksgateway.grants[0].group_tags: is empty"),
    "no claims": (_grant(claims={}), "eksgateway.grants[0].claims: is empty"),
    "claim as text": (_grant(claims={"ref": "main"}), "grants[0].claims.ref: must be a list, and is 'main'"),
    "no tags of a freeze": (_freeze(tags={}), "eksgateway.freezes[0].tags: is empty"),
    "duration without a unit": (
        _grant(older_than="2"),
        "older_than: '2' is not understood; a duration is a whole number",
    ),
    "duration of two units": (_grant(older_than="1h30m"), "older_than: '1h30m' is not understood"),
    "no duration": (_grant(older_than="0h"), "older_than: '0h' is not understood"),
    "two wildcards of a ticket": (
        _grant(ticket_patterns=["OPS-#-*"]),
        "ticket_patterns[0]: 'OPS-#-*' is not understood",
    ),
    "empty pattern of a ticket": (
        _grant(ticket_patterns=[""]),
        "ticket_patterns[0]: '' is not understood; a ticket's",
    ),
    "empty note": (_grant(note=""), "eksgateway.grants[0].note: is empty"),
    "denials as a mapping": (
        lambda c: c.update(denials={}),
        "eksgateway.denials: must be a list, and is a mapping",
    ),
}


@pytest.mark.parametrize(("change", "fault"), FAULTS.values(), ids=FAULTS.keys())
def test_each_fault_is_reported_once_with_its_path(change: Change, fault: str) -> None:
    content = copy.deepcopy(CONTENT)
    change(content)
    faults = find_faults({"eksgateway": content})
    assert len(faults) == 1, faults
    assert fault in faults[0]


@pytest.mark.parametrize("document", [None, [], "x", 5, {}, {"eksgateway": None}, {"grants": []}], ids=repr)
def test_documents_of_another_shape_are_refused(document: Any) -> None:
    assert find_faults(document)


def test_all_faults_are_reported_at_once() -> None:
    assert len(find_faults({"eksgateway": {"grants": [{"id": "a"}], "freezes": [{"id": "a"}]}})) == 9


def test_many_faults_are_counted_after_the_first_100() -> None:
    grants = [{"id": f"g{number}"} for number in range(1000)]
    faults = find_faults({"eksgateway": {"grants": grants}})
    assert len(faults) == 101
    assert faults[0] == "eksgateway.grants[0].actions: is missing"
    assert faults[-1] == "and 4900 more"


def test_long_texts_are_cut_in_faults() -> None:
    content = copy.deepcopy(CONTENT)
    content["grants"][0].update({"clusters": ["*" * 100_000], "x" * 100_000: 1})
    content["grants"][1]["clusters"] = [10**2000]
    assert all(len(fault) < 700 for fault in find_faults({"eksgateway": content}))
