"""`eksgateway policy who` and `can`: what they read, print and refuse. tests/policy/test_review.py has the
proof that they agree with the policy, and docs/policy-tools.md shows tables.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from eksgateway.cli.main import app
from support.settings_files import write_settings

AT = "2026-12-01T12:00:00Z"
GRANT: dict[str, Any] = {
    "id": "oncall",
    "groups": ["corp:oncall"],
    "actions": ["cancel", "watch"],
    "accounts": ["*"],
    "regions": ["us-east-1"],
    "clusters": ["prod-*"],
    "update_types": ["VersionRollback"],
    "tags": {"environment": ["production"]},
    "owner": "team-platform",
    "note": "why",
}
ROBOT: dict[str, Any] = {
    "id": "robot",
    "subjects": ["jwt:github:repo:corp/infra:*", "spiffe://corp.example/ci/*"],
    "actions": ["cancel"],
    "accounts": ["111122223333"],
    "regions": ["us-east-1"],
    "clusters": ["*"],
    "update_types": ["VersionRollback"],
    "claims": {"ref": ["refs/heads/main"]},
    "until": "2026-12-31T00:00:00Z",
}
FREEZE = {"id": "f", "clusters": ["*"], "from": "2026-12-20T00:00:00Z", "until": "2027-01-03T00:00:00Z"}


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["policy", *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def data(tmp_path: Path) -> Path:
    soft = {"id": "soft", "clusters": ["prod-1"], "windows": [{"zone": "UTC"}]}
    content = {
        "grants": [GRANT, ROBOT, {**GRANT, "id": "next", "from": "2026-12-07T00:00:00Z"}],
        "denials": [{"id": "d", "groups": ["corp:sales"], "reason": "See INC-7."}],
        "freezes": [FREEZE, {**soft, "tags": {"environment": ["staging"]}}],
    }
    file = tmp_path / "data.yaml"
    file.write_text(yaml.safe_dump({"eksgateway": content}))
    return file


def who(data: Path, *options: object, at: str = AT) -> Any:
    code, output, error = run("who", "--data", data, "--at", at, "--json", *options)
    assert (code, error) == (0, "")
    return json.loads(output)


def can(data: Path, *options: object, at: str = AT) -> Any:
    code, output, error = run("can", *options, "--data", data, "--at", at, "--json")
    assert (code, error) == (0, "")
    return json.loads(output)


def test_who_has_callers_with_grant_owner_and_conditions(data: Path) -> None:
    """A SPIFFE ID has no claims, so it is held back by them. Not-yet grants and restrictions are apart."""
    found = who(data, "--cluster", "prod-1")
    assert [(each["caller"], each["kind"], each["grant"]) for each in found["callers"]] == [
        ("corp:oncall", "group", "oncall"),
        ("jwt:github:repo:corp/infra:*", "subject", "robot"),
    ]
    oncall, robot = found["callers"]
    assert (oncall["owner"], oncall["note"], oncall["until"]) == ("team-platform", "why", None)
    assert oncall["conditions"] == {key: GRANT[key] for key in ("tags", "update_types")}
    assert (robot["until"], robot["conditions"]["claims"]) == (ROBOT["until"], ROBOT["claims"])
    assert [(each["caller"], each["by"]) for each in found["held_back"]] == [
        ("spiffe://corp.example/ci/*", [])
    ]
    assert [(each["grant"], each["why"]) for each in found["not_now"]] == [
        ("next", "begins at 2026-12-07T00:00:00Z")
    ]
    assert [each["id"] for each in found["denials"]] == ["d"]
    assert [each["id"] for each in found["freezes"]] == ["soft"]


def test_who_leaves_out_conditions_of_other_actions(data: Path) -> None:
    """Conditions of cancels, and freezes, are not about others."""
    found = who(data, "--cluster", "prod-1", "--action", "watch", at="2026-12-24T00:00:00Z")
    assert [each["caller"] for each in found["callers"]] == ["corp:oncall", "corp:oncall"]
    assert found["callers"][0]["conditions"] == {"tags": GRANT["tags"]}
    assert found["freezes"] == []


def test_who_during_a_freeze_lists_callers_as_held_back(data: Path) -> None:
    found = who(data, "--cluster", "prod-1", at="2026-12-24T00:00:00Z")
    assert found["callers"] == []
    assert [each["by"] for each in found["held_back"]] == [["f"], ["f"], [], ["f"]]


@pytest.mark.parametrize(
    ("options", "grants"),
    [
        (("--cluster", "prod-1", "--account", "444455556666"), {"oncall"}),
        (("--cluster", "prod-1", "--region", "eu-central-1"), set()),
        (("--cluster", "444455556666/us-east-1/prod-1"), {"oncall"}),
        (("--cluster", "staging-1"), {"robot"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_who_leaves_out_grants_of_other_clusters_accounts_and_regions(
    data: Path, options: tuple[str, ...], grants: set[str]
) -> None:
    assert {each["grant"] for each in who(data, *options)["callers"]} == grants


@pytest.mark.parametrize("types", [["VersionRollback", "AddonUpdate"], ["AddonUpdate", "VersionRollback"]])
def test_rights_name_the_freezes_of_some_updates_and_tags(tmp_path: Path, types: list[str]) -> None:
    """In any order of the grant's lists, and none whose updates or tags the grant does not have."""
    night: dict[str, Any] = {"clusters": ["*"], "windows": [{"zone": "UTC"}], "except_groups": ["corp:leads"]}
    freezes: dict[str, dict[str, Any]] = {
        "production": {"tags": {"environment": ["production"]}},
        "secret": {"tags": {"secret": ["yes"]}},
        "addons": {"update_types": ["AddonUpdate"]},
        "dev": {"tags": {"environment": ["dev"]}},
        "upgrades": {"update_types": ["VersionUpdate"]},
    }
    grant = {**GRANT, "update_types": types, "tags": {"environment": ["staging", "production"]}}
    content = {
        "grants": [grant, {**grant, "id": "leads", "groups": ["corp:leads"]}],
        "freezes": [{**night, "id": name, **about} for name, about in freezes.items()],
    }
    data = tmp_path / "data.yaml"
    data.write_text(yaml.safe_dump({"eksgateway": content}))
    partly = {each["grant"]: each["partly_held_by"] for each in who(data, "--cluster", "prod-1")["callers"]}
    assert partly == {"oncall": ["production", "secret", "addons"], "leads": []}
    rights = can(data, "jwt:corp:dana", "--group", "corp:oncall")["rights"]
    assert {tuple(each["actions"]): each["partly_held_by"] for each in rights} == {
        ("cancel",): ["production", "secret", "addons"],
        ("watch",): [],
    }


def test_can_has_rights_with_actions_and_clusters(data: Path) -> None:
    found = can(data, "jwt:corp:dana", "--group", "corp:oncall", "--group", "corp:other")
    assert [(each["grant"], each["actions"], each["clusters"]) for each in found["rights"]] == [
        ("oncall", ["cancel", "watch"], ["prod-*"])
    ]
    assert found["held_back"] == []
    found = can(data, "jwt:corp:dana", "--group", "corp:oncall", at="2026-12-24T00:00:00Z")
    assert [(each["grant"], each["actions"]) for each in found["rights"]] == [
        ("oncall", ["watch"]),
        ("next", ["watch"]),
    ]
    assert [(each["actions"], each["by"]) for each in found["held_back"]] == [(["cancel"], ["f"])] * 2


def test_can_of_a_denied_caller_has_the_denial(data: Path) -> None:
    found = can(data, "jwt:corp:eve", "--group", "corp:oncall", "--group", "corp:sales")
    assert found["rights"] == []
    assert [each["by"] for each in found["held_back"]] == [["d"]]
    assert [each["reason"] for each in found["denials"]] == ["See INC-7."]


def test_can_counts_a_claim_that_is_not_given_as_one_that_fits(data: Path) -> None:
    subject = "jwt:github:repo:corp/infra:x"
    for claims, rights in (((), 1), (("ref=refs/heads/main",), 1), (("ref=refs/heads/x",), 0), (("a=b",), 1)):
        options = [part for claim in claims for part in ("--claim", claim)]
        assert len(can(data, subject, *options)["rights"]) == rights, claims
    (later,) = can(data, subject, "--claim", "ref=x")["not_now"]
    assert later["why"] == "asks for the token's claim ref to be refs/heads/main"


def test_can_asks_for_a_group_that_leaves_a_tag(tmp_path: Path) -> None:
    """Of `corp:team-oncall` nothing is left between both ends of the pattern, so no tag names it."""
    grant = {**GRANT, "groups": ["corp:*"], "group_tags": {"team": "corp:team-*-oncall"}}
    file = tmp_path / "data.yaml"
    file.write_text(yaml.safe_dump({"eksgateway": {"grants": [grant]}}))
    assert len(can(file, "jwt:corp:a", "--group", "corp:team-x-oncall")["rights"]) == 1
    found = can(file, "jwt:corp:a", "--group", "corp:team-oncall")
    assert (found["rights"], found["held_back"]) == ([], [])
    assert found["not_now"][0]["why"] == "asks for a cluster of a group corp:team-*-oncall"


def test_tables_have_no_empty_columns(data: Path) -> None:
    """In a pipe each caller is a line."""
    code, output, _ = run("who", "--cluster", "staging-1", "--data", data, "--at", AT)
    assert code == 0
    title, header, row, *_ = output.splitlines()
    assert title == f"cancel on */*/staging-1 at {AT}: 1 caller"
    assert header.split() == ["CALLER", "GRANT", "UNTIL", "WHERE", "IF"]
    assert row.split()[:2] == ["jwt:github:repo:corp/infra:*", "robot"]
    code, output, _ = run("can", "jwt:corp:nobody", "--data", data, "--at", AT)
    assert (code, output) == (0, f"jwt:corp:nobody at {AT}: nothing\n")


def test_tables_have_the_first_items_of_long_lists(tmp_path: Path) -> None:
    """JSON has all."""
    clusters = [f"c-{number}" for number in range(9)]
    file = tmp_path / "data.yaml"
    file.write_text(yaml.safe_dump({"eksgateway": {"grants": [{**GRANT, "clusters": clusters}]}}))
    code, output, _ = run("can", "jwt:corp:a", "--group", "corp:oncall", "--data", file)
    assert code == 0
    assert "c-0, c-1, c-2, c-3, c-4, 4 more  oncall" in output
    assert can(file, "jwt:corp:a", "--group", "corp:oncall")["rights"][0]["clusters"] == clusters


def test_the_settings_of_a_gateway_name_the_data(tmp_path: Path, data: Path) -> None:
    settings = write_settings(tmp_path / "config.yaml", data=data.name)
    code, output, _ = run("who", "--cluster", "prod-1", "--config", settings, "--at", AT)
    assert code == 0
    assert "group corp:oncall" in output


MISUSED = {
    "a pattern as a cluster": (("who", "--cluster", "prod-*"), "--cluster"),
    "no account": (("who", "--cluster", "a", "--account", "1"), "--account"),
    "no region": (("who", "--cluster", "a", "--region", "x"), "--region"),
    "no action": (("who", "--cluster", "a", "--action", "stop"), "--action"),
    "no time": (("who", "--cluster", "a", "--at", "noon"), "--at"),
    "no issuer": (("can", "jwt:dana"), "SUBJECT"),
    "a pattern as a caller": (("can", "jwt:corp:*"), "SUBJECT"),
    "a group without an issuer": (("can", "jwt:corp:a", "--group", "x"), "--group"),
    "a claim without a value": (("can", "jwt:corp:a", "--claim", "x"), "--claim"),
    "a certificate with groups": (("can", "spiffe://d/x", "--group", "corp:a"), "SUBJECT"),
    "no data": (("who", "--cluster", "a"), "--data PATH"),
    "no file": (("can", "jwt:corp:a", "--data", "nowhere.yaml"), "cannot be read: No such file"),
}


@pytest.mark.parametrize(("words", "hint"), MISUSED.values(), ids=MISUSED)
def test_wrong_usage_is_refused_with_a_hint(words: tuple[str, ...], hint: str) -> None:
    """Exit 2, and nothing on standard output."""
    code, output, error = run(*words)
    assert (code, output) == (2, "")
    assert hint in error


def test_faults_of_the_data_are_printed(tmp_path: Path) -> None:
    file = tmp_path / "data.yaml"
    file.write_text("eksgateway: {grants: [{}]}")
    code, output, error = run("who", "--cluster", "a", "--data", file)
    assert (code, output) == (2, "")
    assert "eksgateway.grants[0].id: is missing" in error


def test_names_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    file = tmp_path / "data.yaml"
    grant = {**GRANT, "groups": ["corp:\x1b[31m\u202ex"], "note": "a\nb"}
    file.write_text(yaml.safe_dump({"eksgateway": {"grants": [grant]}}))
    for words in (("who", "--cluster", "prod-1"), ("who", "--cluster", "prod-1", "--json")):
        code, output, _ = run(*words, "--data", file)
        assert code == 0
        assert all(each.isprintable() for each in output.replace("\n", ""))
