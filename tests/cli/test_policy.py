"""`eksgateway policy check`: exit 0 for data that a gateway would take, else 1 with every fault."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from eksgateway.cli.main import app
from eksgateway.clock import SystemClock
from eksgateway.policy.factory import open_engine
from eksgateway.settings import WasmPolicySettings

EXAMPLE = Path(__file__).parents[2] / "policies" / "data.example.yaml"


def check(file: Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["policy", "check", str(file)])
    return result.exit_code, result.output


async def test_good_data() -> None:
    """It says what it has found there, and the revision by which a gateway tells of it."""
    engine = await open_engine(WasmPolicySettings(data=EXAMPLE), SystemClock())
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
def test_bad_data(tmp_path: Path, text: str, faults: list[str]) -> None:
    """Each fault with its path."""
    file = tmp_path / "data.yaml"
    file.write_text(text)
    code, told = check(file)
    assert code == 1
    assert str(file) in told
    for fault in faults:
        assert fault in told


def test_no_file(tmp_path: Path) -> None:
    """Said in words."""
    code, told = check(tmp_path / "nowhere.yaml")
    assert code == 1
    assert "cannot be read: No such file" in told
