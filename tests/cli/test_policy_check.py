"""`eksgateway policy check`: exit 0 for data that a gateway would put in force, else 1 with every fault."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from eksgateway.cli.main import app
from eksgateway.clock import SystemClock
from eksgateway.policy.factory import open_policy_engine
from eksgateway.settings import WasmPolicySettings
from support.settings_files import write_settings

EXAMPLE = Path(__file__).parents[2] / "policies" / "data.example.yaml"


DOUBTFUL = """\
eksgateway:
  sets: {leads: ["corp:leads"]}
  grants:
    - id: a
      groups: [platform]
      actions: [cancel]
      accounts: ["111122223333"]
      regions: [us-east-1]
      clusters: ["*"]
      update_types: [VersionRolback]
      until: "2027-01-01T00:00:00Z"
"""


def check(file: Path, *options: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["policy", "check", str(file), *map(str, options)])
    return result.exit_code, result.output


async def test_check_prints_the_revision_of_valid_data() -> None:
    """It is the revision that a gateway logs with this data. The limits follow."""
    engine = await open_policy_engine(WasmPolicySettings(data=EXAMPLE), SystemClock())
    await engine.close()
    code, output = check(EXAMPLE, "--at", "2026-12-01T12:00:00Z")
    counts, revision, limits = output.splitlines()
    assert (code, counts) == (0, f"{EXAMPLE}: good: 5 grants, 1 denial, 2 freezes")
    assert revision == f"In force, its revision is {engine.revision}"
    limits_of = {"data": "16 MB", "compiled data": "5 MB", "memory": "128 MB", "edges": "240 KB"}
    parts = [rf"\S+ of {limit} of {name}" for name, limit in limits_of.items()]
    assert re.fullmatch(rf"It uses {', '.join(parts)}, 0\.[1-9] of 2 ms of CPU time for a decision", limits)


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        pytest.param(
            "eksgateway: {grants: [{id: a, clusterz: [x], accounts: [111122223333]}]}",
            [
                "eksgateway.grants[0].clusterz: is not known here",
                "grants[0].accounts[0]: 111122223333 without",
            ],
            id="two faults",
        ),
        pytest.param("eksgateway: [", ["is not YAML"], id="no YAML"),
        pytest.param("", ["the document: must be a mapping"], id="empty"),
    ],
)
def test_check_prints_every_fault_with_its_path(tmp_path: Path, text: str, faults: list[str]) -> None:
    file = tmp_path / "data.yaml"
    file.write_text(text)
    code, output = check(file)
    assert code == 1
    assert str(file) in output
    for fault in faults:
        assert fault in output


def test_check_reports_a_missing_file(tmp_path: Path) -> None:
    code, output = check(tmp_path / "nowhere.yaml")
    assert code == 1
    assert "cannot be read: No such file" in output


def test_warnings_are_printed_below_the_revision_of_good_data(tmp_path: Path) -> None:
    """Also what is over at another time. The exit code is 0."""
    file = tmp_path / "data.yaml"
    file.write_text(DOUBTFUL)
    code, output = check(file, "--at", "2026-12-01T12:00:00Z")
    assert code == 0
    heading, group, kind, unused = output.splitlines()[3:]
    assert heading == "3 warnings:"
    assert group.startswith("  - grant a, groups[0]: `platform` matches no group: write `ISSUER:platform`")
    assert kind.startswith("  - grant a, update_types[0]: `VersionRolback` is no update type of EKS")
    assert kind.endswith("is `VersionRollback` meant?")
    assert unused == "  - set eksgateway.sets.leads: no list names it"
    code, output = check(file, "--at", "2027-01-01T01:00:00+01:00")
    assert "grant a, until: is over since 2027-01-01T00:00:00Z" in output


def test_windows_are_refused_when_the_rules_of_zones_end(tmp_path: Path) -> None:
    file = tmp_path / "data.yaml"
    windows = "windows: [{days: [sat, sun], zone: Europe/Berlin}]"
    file.write_text(f"eksgateway: {{grants: [], freezes: [{{id: weekends, clusters: ['*'], {windows}}}]}}")
    assert check(file, "--at", "2040-06-01T00:00:00Z")[0] == 0
    code, output = check(file, "--at", "2040-09-01T00:00:00Z")
    assert code == 1
    assert "install a newer version" in output


def test_strict_makes_warnings_faults(tmp_path: Path) -> None:
    """Exit 1 with warnings, 0 without. The output says why data that is good fails."""
    file = tmp_path / "data.yaml"
    file.write_text(DOUBTFUL)
    code, output = check(file, "--strict", "--at", "2026-12-01T12:00:00Z")
    assert code == 1
    assert "3 warnings, which --strict refuses:" in output
    assert check(EXAMPLE, "--strict", "--at", "2026-12-01T12:00:00Z")[0] == 0


def test_json_has_the_findings_and_the_faults(tmp_path: Path) -> None:
    file = tmp_path / "data.yaml"
    file.write_text(DOUBTFUL)
    code, output = check(file, "--json", "--at", "2026-12-01T12:00:00Z")
    found = json.loads(output)
    assert (code, found["good"], found["faults"]) == (0, True, [])
    assert found["revision"].startswith("sha256:")
    assert found["limits"]["data"] == {"used": len(DOUBTFUL) / (1 << 20), "limit": 16, "unit": "MB"}
    assert [(each["rule"], each["entry"], each["place"]) for each in found["warnings"]] == [
        ("impossible-group", "a", "groups[0]"),
        ("unknown-update-type", "a", "update_types[0]"),
        ("unused-set", "eksgateway.sets.leads", ""),
    ]
    file.write_text("eksgateway: {grants: [{}]}")
    code, output = check(file, "--json")
    found = json.loads(output)
    assert (code, found["good"], found["revision"]) == (1, False, None)
    assert "eksgateway.grants[0].id: is missing" in found["faults"]


def test_settings_give_the_names_that_are_known(tmp_path: Path) -> None:
    """Unusable settings are exit 2."""
    settings = write_settings(tmp_path / "config.yaml", data="data.yaml")
    code, output = check(EXAMPLE, "--config", settings)
    assert code == 0
    assert "grant viewers, groups[0]: `corp:engineering` names no caller: the issuers" in output
    assert (
        "grant rollback-robot, subjects[0]: `jwt:corp:rollback-robot` names no caller: the issuers" in output
    )
    assert "grant rollback-robot, regions[1]: `eu-central-1` has no target in the settings" in output
    settings.write_text("x: 1")
    assert check(EXAMPLE, "--config", settings)[0] == 2


def test_only_the_first_warnings_are_printed(tmp_path: Path) -> None:
    grants = "".join(
        f"""
    - id: g-{number}
      groups: [platform]
      actions: [get]
      accounts: ["111122223333"]
      regions: [us-east-1]
      clusters: [c-{number}]"""
        for number in range(130)
    )
    file = tmp_path / "data.yaml"
    file.write_text(f"eksgateway:\n  grants:{grants}\n")
    lines = check(file)[1].splitlines()
    assert lines[3] == "130 warnings:"
    assert lines[-1] == "  - and 30 more"
    assert len(lines) == 4 + 100 + 1


@pytest.mark.parametrize(
    "time", ["2026-12-01T12:00:00", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-01:00"]
)
def test_a_time_without_a_zone_or_beyond_the_years_is_a_usage_error(time: str) -> None:
    code, output = check(EXAMPLE, "--at", time)
    assert code == 2
    assert "is no time with a zone" in output
