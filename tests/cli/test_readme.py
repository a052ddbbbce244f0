"""The README's sessions, against a sandbox."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import psycopg

from eksgateway.clock import SystemClock
from eksgateway.ledger.sql_ledger import open_ledger
from eksgateway.sandbox.postgres_server import PostgresServer
from eksgateway.settings import LedgerSettings
from support.processes import run_program
from support.sandbox import run_sandbox
from support.terminal import run_in_terminal
from support.waiting import wait_until

README = Path(__file__).parents[2] / "README.md"
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Step:
    """A command, and the output that the README shows, with … for omitted parts."""

    command: str
    shown: str


def steps_in(program: str) -> list[Step]:
    """The steps in the block that begins with a command of this program."""
    block = README.read_text().partition(f"```\n$ {program} ")[2].partition("```")[0]
    steps = []
    for each in f"{program} {block}".split("\n$ "):
        end = re.search(r"' \$GATEWAY \S+\n" if program == "grpcurl" else r"\n", each)
        assert end, each
        steps.append(Step(each[: end.end()], each[end.end() :]))
    return steps


def plain(text: str) -> str:
    """Without the parts that vary from run to run: ids, times, and white space."""
    text = re.sub(r"[0-9]{2}:[0-9]{2}:[0-9]{2}(  [0-9]+s)?", "<time>", text)
    return UUID.sub("<id>", " ".join(text.split()))


def shows(output: str, shown: str) -> bool:
    """Whether the output has the shown parts, in this order."""
    parts = [re.escape(plain(part)) for part in shown.split("…")]
    return re.match(".*".join(parts), plain(output)) is not None


def without_middle(text: str) -> str:
    """A slow machine may miss a state on the way, never the last one."""
    return "\n".join(line for line in text.splitlines() if "CANCELLING" not in line)


async def test_the_readmes_session_gives_the_shown_output(tmp_path: Path) -> None:
    """Denied with the reason and what would help, accepted, and watched to the end in a live table."""
    async with run_sandbox(tmp_path) as here:
        await wait_until(lambda: "Ctrl-C" in here.process.out)
        variables = re.search(r"^  (\. \S+)$", here.process.out, re.MULTILINE)
        assert variables
        for step, code in zip(steps_in("eksgateway"), (1, 0), strict=True):
            async with run_in_terminal("sh", "-c", f"{variables[1]}\n{step.command}") as terminal:
                assert await terminal.end() == code, terminal.raw
                screen = without_middle("\n".join(terminal.screen))
                assert shows(screen, without_middle(step.shown)), screen

        (denied,) = steps_in("grpcurl")
        async with run_program("sh", "-c", f"{variables[1]}\n{denied.command}") as shell:
            assert (await shell.end(), shell.out) == (64 + 7, "")  # 64 and the status PERMISSION_DENIED
            assert shows(shell.err, denied.shown), shell.err


async def test_the_readmes_commands_for_several_gateways_run(tmp_path: Path) -> None:
    """They create the roles and the ledger, bring a file's records, and a gateway starts on it."""
    section = README.read_text().partition("\n## Run several\n")[2]
    statements = section.partition("```sql\n")[2].partition("```")[0]
    commands = section.partition("```\npip install ")[2].partition("\n")[2].partition("```")[0]
    await (await open_ledger(LedgerSettings(path=tmp_path / "ledger.db"), SystemClock())).close()
    with PostgresServer() as server:
        with psycopg.connect(server.start().url(), autocommit=True) as connection:
            for statement in statements.strip().splitlines():
                connection.execute(statement)
        place = f"127.0.0.1:{server.port}"
        commands = re.sub(r"DB='db\.internal/eksgateway\?\S+'", f"DB='{place}/eksgateway'", commands)
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        async with run_program("sh", "-ec", f"cd '{tmp_path}'\n{commands}", env={"PATH": path}) as shell:
            assert await shell.end() == 0, shell.err
        url = f"postgresql://eksgateway:gateway-password@{place}/eksgateway"
        await (await open_ledger(LedgerSettings(url=url), SystemClock())).close()
