"""`eksgateway policy check`: exit 0 for data that a gateway would put in force, else 1 with every fault."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from eksgateway.cli.main import app
from eksgateway.clock import SystemClock
from eksgateway.policy.factory import open_policy_engine
from eksgateway.settings import WasmPolicySettings

EXAMPLE = Path(__file__).parents[2] / "policies" / "data.example.yaml"


def check(file: Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["policy", "check", str(file)])
    return result.exit_code, result.output


async def test_check_prints_the_revision_of_valid_data() -> None:
    """It is the revision that a gateway logs with this data."""
    engine = await open_policy_engine(WasmPolicySettings(data=EXAMPLE), SystemClock())
    await engine.close()
    assert check(EXAMPLE) == (
        0,
        f"{EXAMPLE}: good: 4 grants, 1 freeze\nIn force, its revision is {engine.revision}\n",
    )


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
