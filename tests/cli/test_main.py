"""The command line itself."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from eksgateway.cli.main import app
from support.processes import eksgateway_command, run_program

PROJECT = Path(__file__).parents[2] / "pyproject.toml"


async def test_version_prints_the_packages_version() -> None:
    """As the package's metadata has it, which is pyproject.toml's."""
    async with run_program(*eksgateway_command("--version")) as shown:
        assert await shown.end() == 0, shown.err
        assert shown.out == f"eksgateway {tomllib.loads(PROJECT.read_text())['project']['version']}\n"


def list_commands() -> list[tuple[str, ...]]:
    """The words of every command and group."""
    found: list[tuple[str, ...]] = []

    def walk(command: Any, words: tuple[str, ...]) -> None:
        found.append(words)
        for name, child in getattr(command, "commands", {}).items():
            walk(child, (*words, name))

    walk(typer.main.get_command(app), ())
    return found


async def test_help_names_every_command() -> None:
    """Also without any argument, which is a usage error."""
    commands = [words[0] for words in list_commands() if len(words) == 1]
    assert {"serve", "health", "watch", "cancel", "show", "context", "ledger", "policy"} <= set(commands)
    for arguments, code in ((("--help",), 0), ((), 2)):
        async with run_program(*eksgateway_command(*arguments)) as shown:
            assert await shown.end() == code
            assert all(f" {each} " in shown.out + shown.err for each in commands)


def test_the_list_of_policy_commands_has_whole_sentences() -> None:
    """On 80 columns."""
    shown = CliRunner().invoke(app, ["policy", "--help"], prog_name="eksgateway", terminal_width=80)
    commands = shown.output.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()
    assert len(commands) == 6
    assert all(line.endswith(".") and not line.endswith("...") for line in commands), commands


def test_every_help_shows_an_example() -> None:
    """A command line of that command, in 80 columns."""
    runner = CliRunner()
    for words in list_commands():
        shown = runner.invoke(app, [*words, "--help"], prog_name="eksgateway", terminal_width=80)
        example = shown.stdout.rpartition("Example")[2]
        assert " ".join(("eksgateway", *words)) in example, words
        assert max(map(len, shown.stdout.splitlines())) <= 80, words


@pytest.mark.parametrize(
    ("words", "forbidden"),
    [
        ("cancel --help", {"grpc", "yaml", "rich", "google"}),
        ("--version", {"grpc", "yaml", "rich", "google"}),
        ("get prod-1 u-1 --timeout 0.5 --address 127.0.0.1:1", {"yaml", "rich"}),
    ],
)
def test_commands_import_only_what_they_need(words: str, forbidden: set[str]) -> None:
    """None that calls a gateway imports the server's packages. (typer imports pydantic if it is there.)"""
    imported, _ = run_command(*words.split())
    assert "typer" in imported
    assert not imported & (forbidden | {"boto3", "botocore", "sqlalchemy", "wasmtime", "aiohttp"})


def run_command(*words: str) -> tuple[set[str], list[str]]:
    """The packages that it imports, and the lines it prints to standard error."""
    code = (
        "import sys\n"
        f"sys.argv = ['eksgateway', *{words!r}]\n"
        "from eksgateway.cli import main\n"
        "try: main()\n"
        "except SystemExit as exc: print('exit', exc.code, file=sys.stderr)\n"
        "print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, timeout=60, capture_output=True, text=True, input=""
    )
    *lines, packages = done.stderr.splitlines()
    return set(packages.split()), lines


@pytest.mark.parametrize("more", [[], ["--stop-on-stdin-eof"]])
def test_serve_with_a_file_needs_no_typer(tmp_path: Path, more: list[str]) -> None:
    """It ends as in every other form, which typer reads."""
    config = str(tmp_path / "config.yaml")
    imported, lines = run_command("serve", "--config", config, *more)
    assert "typer" not in imported
    assert lines == [f"eksgateway: {config}: cannot be read: No such file or directory", "exit 1"]
    imported, by_typer = run_command("serve", f"--config={config}", *more)
    assert "typer" in imported
    assert by_typer == lines
