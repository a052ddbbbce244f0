"""The curl commands of docs/http.md and the README, copied into the shell of a sandbox."""

from __future__ import annotations

import json
import re
from pathlib import Path

from support.processes import run_program
from support.sandbox import run_sandbox
from support.waiting import wait_until

ROOT = Path(__file__).parents[2]


def shell_block(page: str, with_text: str) -> str:
    """The one block of a page that has this text."""
    blocks = re.split(r"^```.*\n", (ROOT / page).read_text(), flags=re.MULTILINE)[1::2]
    (found,) = [block for block in blocks if with_text in block]
    return found


async def test_curl_commands_lead_to_a_watched_cancel(tmp_path: Path) -> None:
    """Listed, read, cancelled, watched to FINAL, and found in the history."""
    commands = shell_block("docs/http.md", "call()")
    async with run_sandbox(tmp_path) as here:
        await wait_until(lambda: "Ctrl-C" in here.process.out)
        variables = re.search(r"^  (\. \S+)$", here.process.out, re.MULTILINE)
        assert variables
        commands = commands.replace("\ncall ", "\necho; call ")  # an answer to each line
        async with run_program("sh", "-c", f"{variables[1]}\n{commands}") as shell:
            assert await shell.end() == 0, shell.err
            assert shell.err == ""
            listed, got, cancelled, *watched, found = [
                json.loads(line) for line in shell.out.splitlines() if line
            ]
        assert len(listed["updates"]) > 1
        assert got["update"]["id"] == "rollback-prod-1"
        assert cancelled["cancellation"]["requestId"] == "try-1"
        assert watched[0]["kind"] == "WATCH_KIND_SNAPSHOT"
        assert watched[-1]["kind"] == "WATCH_KIND_FINAL"
        assert found["cancellation"]["phase"] == "CANCELLATION_PHASE_CANCELLED"

        readme = shell_block("README.md", "curl -N")
        async with run_program("sh", "-c", f"{variables[1]}\n{readme}") as shell:
            assert await shell.end() == 0
            assert json.loads(shell.out.splitlines()[-1])["kind"] == "WATCH_KIND_FINAL"
