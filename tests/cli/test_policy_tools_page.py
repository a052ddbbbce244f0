"""The sessions of docs/policy-tools.md, in a terminal of 80 columns."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import get_args

import pytest

from eksgateway.policy.lint.finding import Rule
from support.processes import run_program
from support.terminal import run_in_terminal

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "policy-tools.md").read_text()


def sessions() -> list[tuple[str, str]]:
    """Each command with its output, in which … stands for a part that varies."""
    return re.findall(r"^```\n\$ (eksgateway [^\n]+)\n(.*?)```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The page's files."""
    data, doubtful = re.findall(r"^```yaml\n(.*?)```$", PAGE, re.MULTILINE | re.DOTALL)
    (tmp_path / "data.yaml").write_text(data)
    (tmp_path / "doubtful.yaml").write_text(doubtful)
    shutil.copy(ROOT / "policies" / "input.example.yaml", tmp_path / "input.yaml")
    return tmp_path


@pytest.mark.parametrize(("command", "shown"), sessions(), ids=lambda text: text.partition("\n")[0][:60])
async def test_the_pages_commands_print_what_it_shows(folder: Path, command: str, shown: str) -> None:
    """They end with 0."""
    async with run_in_terminal("sh", "-c", f"cd '{folder}' && {command}") as terminal:
        assert await terminal.end() == 0, terminal.raw
        printed = "\n".join(terminal.screen).strip()
    assert re.fullmatch(".*".join(map(re.escape, shown.strip().split("…"))), printed), printed


def test_the_page_has_the_commands_in_sessions() -> None:
    assert {command.split()[2] for command, _ in sessions()} == {"check", "who", "can", "test"}


def test_the_page_has_every_rule_of_a_warning() -> None:
    """And no other."""
    table = PAGE.partition("| rule (in `--json`)")[2].partition("\n\n")[0]
    first_cells = [line.split(" | ")[0] for line in table.splitlines()[2:]]
    assert re.findall(r"`([a-z-]+)`", "".join(first_cells)) == [*get_args(Rule)]


@pytest.mark.skipif(not shutil.which("jq"), reason="needs jq")
async def test_the_pages_json_is_read_by_jq(folder: Path) -> None:
    (command,) = re.findall(r"^(eksgateway policy who .* \| jq .*)$", PAGE, re.MULTILINE)
    async with run_program("sh", "-c", f"cd '{folder}' && {command}") as shell:
        assert await shell.end() == 0, shell.err
        assert '"corp:oncall","oncall","team-platform"' in shell.out
