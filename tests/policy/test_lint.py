"""Findings about policy data that is good but hardly meant: each kind, and none about what is meant."""

from __future__ import annotations

import copy
import re
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from eksgateway.eks.update_types import read_update_types
from eksgateway.policy.lint.finding import Finding
from eksgateway.policy.lint.findings import find_all
from eksgateway.policy.lint.pattern_index import PatternIndex
from eksgateway.policy.patterns import matches
from eksgateway.policy.source import PolicyDataError, load_content
from eksgateway.settings import Settings

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
GRANT = {
    "id": "g",
    "groups": ["corp:platform"],
    "actions": ["cancel", "get"],
    "accounts": ["111122223333"],
    "regions": ["us-east-1"],
    "clusters": ["prod-*"],
    "update_types": ["VersionRollback"],
}
DENIAL = {"id": "d", "subjects": ["jwt:corp:bot"], "reason": "Its key leaked."}
FREEZE = {
    "id": "f",
    "clusters": ["*"],
    "from": "2026-12-20T00:00:00Z",
    "until": "2027-01-03T00:00:00Z",
}

Entries = list[dict[str, Any]]


def grant(**changes: Any) -> dict[str, Any]:
    """A change to None removes the key."""
    entry = copy.deepcopy(GRANT) | changes
    return {key: value for key, value in entry.items() if value is not None}


def findings(
    tmp_path: Path,
    grants: Entries,
    denials: Sequence[Any] = (),
    freezes: Sequence[Any] = (),
    gateway: Settings | None = None,
) -> list[Finding]:
    """Of data that the schema accepts."""
    data = {"grants": grants, "denials": list(denials), "freezes": list(freezes)}
    file = tmp_path / "data.yaml"
    file.write_text(yaml.safe_dump({"eksgateway": data}))
    return list(find_all(load_content(file), NOW, read_update_types(), gateway))


def one_grant(**changes: Any) -> tuple[Entries, Entries, Entries]:
    return [grant(**changes)], [], []


def freeze(**changes: Any) -> tuple[Entries, Entries, Entries]:
    return [grant()], [], [FREEZE | changes]


def with_denial(grants: Entries, **changes: Any) -> tuple[Entries, Entries, Entries]:
    return grants, [DENIAL | changes], []


BOT = grant(groups=None, subjects=["jwt:corp:bot"])
TICKET = grant(require=["reason", "ticket"])
SERVICE_ACCOUNTS = "jwt:k8s:system:serviceaccount:"

FOUND: dict[str, tuple[tuple[Entries, Entries, Entries], str]] = {
    # callers
    "group without an issuer": (
        one_grant(groups=["platform"]),
        "impossible-group groups[0] `ISSUER:platform`",
    ),
    "group with a star and without an issuer": (
        one_grant(groups=["corp:a", "platform-*"]),
        "impossible-group groups[1] `ISSUER:platform-*`",
    ),
    "excepted group without an issuer": (
        freeze(except_groups=["leads"]),
        "impossible-group except_groups[0] `ISSUER:leads`",
    ),
    "a SPIFFE ID as a group": (
        one_grant(groups=["spiffe://corp.example/x"]),
        "impossible-group groups[0] have no groups",
    ),
    "a caller as a group": (
        one_grant(groups=["jwt:corp:dana"]),
        "impossible-group groups[0] among the subjects",
    ),
    "an issuer's name that cannot be": (one_grant(groups=["Corp:a"]), "impossible-group groups[0] `Corp`"),
    "a group without a name": (one_grant(groups=["corp:"]), "impossible-group groups[0] is empty"),
    "a caller without an issuer": (
        one_grant(subjects=["jwt:bot"]),
        "impossible-caller subjects[0] jwt:ISSUER:bot",
    ),
    "no SPIFFE ID": (
        one_grant(subjects=["spiffe://Corp.example/x"]),
        "impossible-caller subjects[0] lower-case",
    ),
    "no path in a SPIFFE ID": (
        one_grant(subjects=["spiffe://corp.example"]),
        "impossible-caller subjects[0] PATH",
    ),
    "a token as a connection": (one_grant(via=["jwt:corp:x"]), "impossible-via via[0] has a SPIFFE ID"),
    "a certificate with claims": (
        one_grant(subjects=["spiffe://corp.example/x"], claims={"ref": ["a"]}),
        "impossible-caller subjects[0] callers with a token",
    ),
    "a service account without a name": (
        one_grant(subjects=[f"{SERVICE_ACCOUNTS}ci"]),
        "impossible-caller subjects[0] NAMESPACE:NAME",
    ),
    "a name that cannot be printed": (
        one_grant(groups=["corp:a\u202eb"]),
        "impossible-group groups[0] not printable",
    ),
    "a claim's path": (
        one_grant(claims={"realm_access.roles": ["a"]}),
        "unknown-claim claims.realm_access.roles in settings",
    ),
    "any issuer's caller": (one_grant(subjects=["jwt:*:bot"]), "star-in-issuer subjects[0] every issuer"),
    "any issuer's group": (one_grant(groups=["*:admins"]), "star-in-issuer groups[0] every issuer"),
    "a star in place of an issuer": (one_grant(groups=["*-admins"]), "star-in-issuer groups[0] every issuer"),
    "a part of an issuer": (one_grant(subjects=["jwt:corp*"]), "star-in-issuer subjects[0] every issuer"),
    "any trust domain": (
        one_grant(subjects=["spiffe://*/x"]),
        "star-in-issuer subjects[0] every trust domain",
    ),
    "any spiffe caller": (
        one_grant(subjects=["spiffe://**"]),
        "star-in-issuer subjects[0] every trust domain",
    ),
    "a part of a namespace": (
        one_grant(subjects=[f"{SERVICE_ACCOUNTS}ci*"]),
        f"star-crosses-colon subjects[0] {SERVICE_ACCOUNTS}ci-other:anyone",
    ),
    "a part of a repository": (
        one_grant(subjects=["jwt:github:repo:corp/app*"]),
        "star-crosses-colon subjects[0] repo:corp/app-other:anyone",
    ),
    # values
    "a misspelt type": (
        one_grant(update_types=["VersionRolback"]),
        "unknown-update-type update_types[0] is `VersionRollback` meant?",
    ),
    "a type in another case": (
        one_grant(update_types=["versionrollback"]),
        "unknown-update-type update_types[0] is `VersionRollback` meant?",
    ),
    "all types": (one_grant(update_types=["*"]), "unknown-update-type update_types[0] types are exact"),
    "some types": (freeze(update_types=["Version*"]), "unknown-update-type update_types[0] types are exact"),
    "another word": (one_grant(update_types=["x"]), "unknown-update-type update_types[0] the known ones are"),
    "a cluster that cannot be": (one_grant(clusters=["prod.1"]), "impossible-cluster clusters[0] letters"),
    "a cluster with a path": (one_grant(clusters=["prod/**"]), "impossible-cluster clusters[0] letters"),
    "a version that cannot be": (one_grant(versions=["v1.31"]), "impossible-version versions[0] like 1.34"),
    "a version with a patch": (one_grant(versions=["1.31.*"]), "impossible-version versions[0] like 1.34"),
    "a star in a tag": (one_grant(tags={"env": ["prod*"]}), "impossible-tag tags.env values are exact"),
    "a requirement without cancel": (
        one_grant(actions=["get"], update_types=None, require=["ticket"]),
        "no-effect require lacks cancel",
    ),
    "types without cancel": (one_grant(actions=["get"]), "no-effect update_types lacks cancel"),
    "an age for list alone": (
        one_grant(actions=["list"], update_types=None, older_than="2h"),
        "no-effect older_than before EKS is read",
    ),
    # times
    "an ended grant": (one_grant(until="2026-12-01T12:00:00Z"), "over until 2026-12-01T12:00:00Z"),
    "an ended freeze": (
        freeze(**{"from": "2025-12-20T00:00:00Z", "until": "2026-01-01T00:00:00Z"}),
        "over until",
    ),
    "an ended denial": (with_denial([grant()], until="2026-01-01T00:00:00Z"), "over until"),
    "windows that never come": (
        one_grant(
            **{"from": "2026-12-07T00:00:00Z", "until": "2026-12-11T00:00:00Z"},
            windows=[{"days": ["sat", "sun"], "zone": "Europe/Berlin"}],
        ),
        "windows-never-come windows between",
    ),
    # exclusions
    "all excluded": (one_grant(except_clusters=["p*"]), "excludes-all except_clusters never"),
    "a denial without a cluster": (
        with_denial([grant()], except_clusters=["*"]),
        "excludes-all except_clusters never",
    ),
    "one excluded": (
        one_grant(clusters=["a-*", "b-1"], except_clusters=["b-*"]),
        "excluded clusters[1] `b-1`",
    ),
    "nothing excluded": (
        one_grant(except_clusters=["pord-pci-*"]),
        "excludes-nothing except_clusters[0] `pord-pci-*`",
    ),
    # overlaps
    "a requirement that is not asked elsewhere": (
        ([TICKET, grant(id="w")], [], []),
        "undone-requirement require grant w",
    ),
    "undone by a wider grant": (
        (
            [grant(id="w", groups=["corp:*"], clusters=["*"], accounts=["*"], require=["reason"]), TICKET],
            [],
            [],
        ),
        "undone-requirement require grant w",
    ),
    "a ticket's form that is not asked elsewhere": (
        ([grant(ticket_patterns=["OPS-#"]), grant(id="w", require=["ticket"])], [], []),
        "undone-requirement ticket_patterns grant w",
    ),
    "the same twice": (([grant(), grant(id="w")], [], []), "redundant w grant g"),
    "a part of another": (
        (
            [grant(id="w", clusters=["*"]), grant(tags={"a": ["b"]}, actions=["get"], update_types=None)],
            [],
            [],
        ),
        "redundant g grant w",
    ),
    "undone by a grant of all callers of the issuer": (
        ([TICKET, grant(id="w", groups=None, subjects=["jwt:corp:*"])], [], []),
        "undone-requirement require grant w",
    ),
    "undone by a grant that began": (
        ([TICKET, grant(id="w", **{"from": "2026-01-01T00:00:00Z"})], [], []),
        "undone-requirement require grant w",
    ),
    "denied with all callers of the issuer": (
        with_denial([grant()], subjects=["jwt:corp:*"]),
        "hidden g (d)",
    ),
    "denied everywhere": (with_denial([BOT]), "hidden g (d)"),
    "denied by a wider denial": (
        with_denial(
            [grant(clusters=["prod-1"])], subjects=["jwt:x:y"], groups=["corp:*"], clusters=["prod-*"]
        ),
        "hidden g (d)",
    ),
    "denied by two denials": (
        (
            [grant(accounts=["111122223333", "444455556666"])],
            [
                {"id": "d1", "groups": ["corp:platform"], "accounts": ["111122223333"], "reason": "x"},
                {"id": "d2", "groups": ["corp:platform"], "accounts": ["444455556666"], "reason": "x"},
            ],
            [],
        ),
        "hidden g (d1, d2)",
    ),
}


@pytest.mark.parametrize(("entries", "expected"), FOUND.values(), ids=FOUND)
def test_doubtful_entries_are_found(
    tmp_path: Path, entries: tuple[Entries, Entries, Entries], expected: str
) -> None:
    """With its rule, place and a hint, and nothing else."""
    found = findings(tmp_path, *entries)
    assert len(found) == 1, [*map(str, found)]
    rule, place, *hint = expected.split(" ", 2)
    assert found[0].rule == rule
    assert place in (found[0].place, found[0].entry)
    assert all(part in found[0].text for part in hint), found[0].text


MEANT: dict[str, tuple[Entries, Entries, Entries]] = {
    "a whole namespace": one_grant(subjects=[f"{SERVICE_ACCOUNTS}ci:*"]),
    "any service account": one_grant(subjects=[f"{SERVICE_ACCOUNTS}*"]),
    "a part of an account's name": one_grant(subjects=[f"{SERVICE_ACCOUNTS}ci:deploy*"]),
    "robots by a part of their name": one_grant(subjects=["jwt:corp:*-bot", "jwt:corp:bot-*"]),
    "groups by a part of their name": one_grant(groups=["corp:team-*"]),
    "a denial of every issuer's bot": with_denial([grant()], subjects=["jwt:*:bot"]),
    "a certificate's callers": one_grant(
        subjects=["spiffe://corp.example/ci/**", "spiffe://corp.example/a*"]
    ),
    "other grants without a ticket for leads": (
        [TICKET, grant(id="w", groups=["corp:leads"])],
        [],
        [],
    ),
    "a ticket on production alone": ([TICKET, grant(id="w", clusters=["staging-*"])], [], []),
    "a ticket but for rollbacks": (
        [grant(require=["ticket"], update_types=["VersionUpdate"]), grant(id="w")],
        [],
        [],
    ),
    "a ticket but at night": (
        [TICKET, grant(id="w", windows=[{"from": "22:00", "until": "06:00", "zone": "UTC"}])],
        [],
        [],
    ),
    "a ticket but this week": ([TICKET, grant(id="w", until="2026-12-07T00:00:00Z")], [], []),
    "a ticket until another grant begins": (
        [TICKET, grant(id="w", **{"from": "2027-01-01T00:00:00Z"})],
        [],
        [],
    ),
    "a ticket but for callers of another issuer": (
        [TICKET, grant(id="w", groups=None, subjects=["jwt:k8s:*"])],
        [],
        [],
    ),
    "a ticket but with a claim": ([TICKET, grant(id="w", claims={"a": ["b"]})], [], []),
    "a wider grant that leaves this out": (
        [grant(clusters=["prod-pci-1"]), grant(id="w", except_clusters=["prod-pci-*"])],
        [],
        [],
    ),
    "more actions on a part": (
        [grant(id="w", actions=["get"], update_types=None, clusters=["*"]), grant()],
        [],
        [],
    ),
    "denied for a while": with_denial([BOT], until="2026-12-02T00:00:00Z"),
    "denied on one cluster": with_denial([BOT], clusters=["prod-1"]),
    "denied but for one cluster": with_denial([BOT], except_clusters=["prod-1"]),
    "one of two denied": with_denial([grant(subjects=["jwt:corp:bot"])]),
    "windows in a short time": one_grant(
        **{"from": "2026-12-07T00:00:00Z", "until": "2026-12-13T00:00:00Z"},
        windows=[{"days": ["sat", "sun"], "zone": "Europe/Berlin"}],
    ),
    "an exclusion of a part": one_grant(except_clusters=["*-pci-*"]),
    "parts of versions": one_grant(versions=["1.31", "1.2*", "*"]),
}


@pytest.mark.parametrize("entries", MEANT.values(), ids=MEANT)
def test_usual_entries_cause_no_finding(tmp_path: Path, entries: tuple[Entries, Entries, Entries]) -> None:
    assert [*map(str, findings(tmp_path, *entries))] == []


def documented_data(tmp_path: Path) -> Iterator[Path]:
    yield ROOT / "policies" / "data.example.yaml"
    yield ROOT / "server" / "eksgateway" / "sandbox" / "grants.yaml"
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "policy.md").read_text(), re.DOTALL)
    for number, block in enumerate(blocks):
        (file := tmp_path / f"{number}.yaml").write_text(block)
        yield file


def test_the_documented_examples_have_no_findings(tmp_path: Path) -> None:
    """Those that are whole files."""
    checked = 0
    for file in documented_data(tmp_path):
        try:
            content = load_content(file)
        except PolicyDataError:
            continue  # a part of a folder
        checked += 1
        assert [*map(str, find_all(content, NOW, read_update_types()))] == [], file.read_text()
    assert checked > 20


@pytest.fixture
def gateway() -> Settings:
    issuers = [
        {"name": "corp", "issuer": "i", "audience": "a", "jwks": "j.json", "claims": {"team": "team"}},
        {"name": "k8s", "issuer": "k", "audience": "a", "jwks": "j.json"},
    ]
    targets = [
        {"account_id": "111122223333", "region": "us-east-1"},
        {
            "account_id": "444455556666",
            "region": "eu-central-1",
            "role_arn": "arn:aws:iam::444455556666:role/x",
        },
    ]
    tls = {"certificate": "c", "key": "k", "client_ca": "ca"}
    return Settings.model_validate(
        {
            "identity": {"jwt": {"issuers": issuers}},
            "listeners": [
                {"address": "127.0.0.1:1"},
                {"address": "127.0.0.1:2", "demand": "mtls", "tls": tls, "trust_domain": "corp.example"},
            ],
            "policy": {"data": "data.yaml"},
            "ledger": {"path": "ledger.db"},
            "eks": {"targets": targets},
        },
        context={"base": ROOT},
    )


UNKNOWN: dict[str, tuple[dict[str, Any], str]] = {
    "a group's issuer": ({"groups": ["okta:admins"]}, "unknown-issuer groups[0] `corp`, `k8s`"),
    "a caller's issuer": ({"subjects": ["jwt:okta:*"]}, "unknown-issuer subjects[0] `corp`, `k8s`"),
    "a trust domain": (
        {"subjects": ["spiffe://other.example/**"]},
        "unknown-issuer subjects[0] `corp.example`",
    ),
    "no such listener": ({"via": ["spiffe://corp.example/**"]}, "unknown-issuer via[0] `demand: both`"),
    "a tag's issuer": ({"group_tags": {"team": "okta:*"}}, "unknown-issuer group_tags.team `corp`"),
    "a claim": ({"claims": {"repository": ["a"]}}, "unknown-claim claims.repository `corp`"),
    "an account": ({"accounts": ["111122223333", "777788889999"]}, "unknown-target accounts[1] 777788889999"),
    "a region": ({"regions": ["us-east-1", "ap-south-1"]}, "unknown-target regions[1] ap-south-1"),
    "an account in another region": ({"accounts": ["444455556666"]}, "unknown-target accounts no target"),
}


@pytest.mark.parametrize(("changes", "expected"), UNKNOWN.values(), ids=UNKNOWN)
def test_names_that_the_gateway_does_not_know_are_found(
    tmp_path: Path, gateway: Settings, changes: dict[str, Any], expected: str
) -> None:
    """Without its settings they are not."""
    assert findings(tmp_path, [grant(**changes)]) == []
    (found,) = findings(tmp_path, [grant(**changes)], gateway=gateway)
    rule, place, hint = expected.split(" ", 2)
    assert (found.rule, found.place) == (rule, place)
    assert hint in found.text


def test_names_that_the_gateway_knows_are_not_found(tmp_path: Path, gateway: Settings) -> None:
    known = grant(
        subjects=["jwt:k8s:system:serviceaccount:ci:*", "jwt:corp:a/b", "spiffe://corp.example/ci/*"],
        groups=["corp:*", "corp:a/**", "*:admins"],
        accounts=["*"],
    )
    found = findings(
        tmp_path, [known, grant(id="h", clusters=["x-*"], claims={"team": ["x"]})], gateway=gateway
    )
    assert {each.rule for each in found} == {"star-in-issuer"}


def test_an_index_finds_the_patterns_that_match() -> None:
    patterns = ["a", "a*", "*a", "*", "a*b", "a*b*c", "a/**", "*a*", "ab", "a*a"]
    index: PatternIndex[str] = PatternIndex()
    for pattern in patterns:
        index.add(pattern, pattern)
    for word in ("a", "ab", "ba", "aa", "aab", "a/b", "abc", "axbxc", "", "b", "a/", "x/a"):
        assert sorted(item for items in index.find(word) for item in items) == sorted(
            each for each in patterns if matches(each, word)
        ), word


def many_grants(**changes: Any) -> Entries:
    """50 teams, each with a grant on each of 200 clusters."""
    return [
        grant(id=f"g{team}.{cluster}", groups=[f"corp:team-{team}", f"corp:leads-{team}*"])
        | {"clusters": [f"c-{cluster}", f"*-{team}-{cluster}"]}
        | {key: make(team, cluster) for key, make in changes.items()}
        for team in range(50)
        for cluster in range(200)
    ]


def one_group(_team: int, _cluster: int) -> list[str]:
    return ["corp:all"]


def one_cluster(_team: int, _cluster: int) -> list[str]:
    return ["*"]


def own_type(team: int, cluster: int) -> list[str]:
    return [f"Type{team}.{cluster}"]


@pytest.mark.parametrize(
    ("grants", "rules"),
    [
        (many_grants(), set()),
        (many_grants(groups=one_group), set()),
        (many_grants(clusters=one_cluster), {"redundant"}),
        (many_grants(groups=one_group, clusters=one_cluster), {"redundant"}),
        (
            many_grants(groups=one_group, clusters=one_cluster, update_types=own_type),
            {"unknown-update-type", "not-compared"},
        ),
    ],
    ids=["distinct", "one group", "one cluster", "all alike", "alike but for their types"],
)
def test_ten_thousand_grants_take_few_seconds(grants: Entries, rules: set[str]) -> None:
    """With 1,000 denials. Grants that would take too long to compare are left out, with a note."""
    denials = [DENIAL | {"id": f"d{number}", "groups": [f"corp:x{number}*"]} for number in range(1000)]
    began = time.process_time()
    found = list(find_all({"grants": grants, "denials": denials, "freezes": []}, NOW, read_update_types()))
    assert time.process_time() - began < 4
    assert {each.rule for each in found} == rules


def denials_of(number: int, **changes: Any) -> Entries:
    return [
        DENIAL | {"id": f"d{each}", "groups": ["corp:*"]} | {key: make(each) for key, make in changes.items()}
        for each in range(number)
    ]


WIDE: Final[dict[str, tuple[Entries, Entries, set[str]]]] = {
    "denials of other clusters": (
        [grant(id=f"g{each}", clusters=[f"c-{each}"]) for each in range(2000)],
        denials_of(2000, clusters=lambda each: [f"d-{each}"]),
        set(),
    ),
    "denials of all": (
        [grant(id=f"g{each}", clusters=[f"c-{each}"]) for each in range(2000)],
        denials_of(2000, until=lambda _: "2099-01-01T00:00:00Z"),
        {"not-compared"},
    ),
    "long lists": (
        [
            grant(id=f"g{each}", groups=[f"corp:{n}*" for n in range(300)], update_types=[f"T{each}"])
            | {"clusters": [f"*-{n}" for n in range(300)]}
            for each in range(100)
        ],
        [],
        {"not-compared", "unknown-update-type"},
    ),
    "long exclusions": (
        [
            grant(clusters=[f"c-{n}" for n in range(1000)])
            | {"except_clusters": [f"d-{n}" for n in range(1000)]}
        ],
        [],
        set(),
    ),
    "exclusions that overlap": (
        [grant(clusters=["*"])],
        denials_of(40, except_clusters=lambda each: [f"*x{each}*", f"*y{each}*"]),
        set(),
    ),
}


@pytest.mark.parametrize(("grants", "denials", "rules"), WIDE.values(), ids=WIDE)
def test_wide_data_takes_few_seconds(grants: Entries, denials: Entries, rules: set[str]) -> None:
    began = time.process_time()
    found = list(find_all({"grants": grants, "denials": denials, "freezes": []}, NOW, read_update_types()))
    assert time.process_time() - began < 4
    assert {each.rule for each in found} == rules
