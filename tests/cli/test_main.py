"""The command line itself."""

from __future__ import annotations

import tomllib
from pathlib import Path

from support.processes import eksgateway_command, run_program

PROJECT = Path(__file__).parents[2] / "pyproject.toml"


async def test_version_prints_the_packages_version() -> None:
    """As the package's metadata has it, which is pyproject.toml's."""
    async with run_program(*eksgateway_command("--version")) as shown:
        assert await shown.end() == 0, shown.err
        assert shown.out == f"eksgateway {tomllib.loads(PROJECT.read_text())['project']['version']}\n"


async def test_help_names_every_command() -> None:
    """Also without any argument, which is a usage error."""
    commands = ("serve", "health", "watch", "cancel", "simulate", "sandbox", "demo", "ledger", "policy")
    for arguments, code in ((("--help",), 0), ((), 2)):
        async with run_program(*eksgateway_command(*arguments)) as shown:
            assert await shown.end() == code
            assert all(f" {each} " in shown.out + shown.err for each in commands)
