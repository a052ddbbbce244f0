"""The README's session with grpcurl, against a sandbox."""

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
from support.processes import RunningProgram, run_program
from support.sandbox import run_sandbox
from support.waiting import wait_until

README = Path(__file__).parents[2] / "README.md"
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Step:
    """A command, and the output that the README shows, with … for omitted parts."""

    command: str
    shown: str


def session() -> list[Step]:
    """The steps in the block that begins with a grpcurl command."""
    block = README.read_text().partition("```\n$ grpcurl ")[2].partition("```")[0]
    steps = []
    for each in f"grpcurl {block}".split("\n$ "):
        end = re.search(r"' \$GATEWAY \S+\n", each)
        assert end, each
        steps.append(Step(each[: end.end()], each[end.end() :]))
    return steps


def plain(text: str) -> str:
    """Without the parts that vary from run to run: ids, and Go's white space."""
    return UUID.sub("<id>", " ".join(text.split()))


def shows(output: str, shown: str) -> bool:
    """Whether the output has the shown parts, in this order."""
    parts = [re.escape(plain(part)) for part in shown.split("…")]
    return re.match(".*".join(parts), plain(output)) is not None


def states(text: str) -> list[tuple[str, str]]:
    """Kind and phase of each message of a watch, heartbeats left out."""
    kinds = re.findall(r'"kind": "WATCH_KIND_(\w+)"', text)
    phases = re.findall(r'"phase": "CANCELLATION_PHASE_(\w+)"', text)
    return [each for each in zip(kinds, phases, strict=True) if each[0] != "HEARTBEAT"]


async def test_the_readmes_session_gives_the_shown_output(tmp_path: Path) -> None:
    """Denied with the reason, accepted, and watched to the end."""
    async with run_sandbox(tmp_path) as here:
        await wait_until(lambda: "Ctrl-C" in here.process.out)
        variables = re.search(r"^  (\. \S+)$", here.process.out, re.MULTILINE)
        assert variables

        async def run(step: Step) -> tuple[int, RunningProgram]:
            async with run_program("sh", "-c", f"{variables[1]}\n{step.command}") as shell:
                return await shell.end(), shell

        denied, accepted, watched = session()
        code, ran = await run(denied)
        assert (code, ran.out) == (64 + 7, "")  # grpcurl: 64 and the status PERMISSION_DENIED
        assert plain(ran.err) == plain(denied.shown)

        code, ran = await run(accepted)
        assert (code, ran.err) == (0, "")
        assert shows(ran.out, accepted.shown), ran.out

        code, ran = await run(watched)
        assert (code, ran.err) == (0, "")
        printed, in_readme = states(ran.out), states(watched.shown)
        # A slow machine may miss a state on the way, never the last one.
        assert printed[0][0] == in_readme[0][0]
        assert set(printed[1:]) <= set(in_readme)
        assert printed[-1] == in_readme[-1]


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
