"""What a user sees in a terminal of 80 columns."""

from __future__ import annotations

import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.gateway import RunningGateway, run_gateway
from support.processes import eksgateway_command
from support.shell_user import user_of
from support.simulator import SimulatedEks
from support.terminal import COLUMNS, run_in_terminal
from support.waiting import wait_until

LONG = "a-cluster-with-quite-a-long-name-for-one-of-its-kind"
COLOR = re.compile(r"\x1b\[[0-9;]*(3|4|9|10)[0-9](;[0-9;]*)?m")


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    async with SimulatedEks() as eks, run_gateway(tmp_path, eks) as here:
        yield here


async def show(
    gateway: RunningGateway, *words: str, code: int = 0, **variables: str
) -> tuple[str, list[str]]:
    """The raw output, and the lines of the screen."""
    env = user_of(gateway, "oncall", "oncall") | variables
    term = env.pop("TERM", "xterm-256color")
    async with run_in_terminal(*eksgateway_command(*words), env=env, term=term) as terminal:
        assert await terminal.end() == code, terminal.raw
        return terminal.raw, terminal.screen


async def test_tables_fit_the_width(gateway: RunningGateway) -> None:
    """Columns that do not fit go below their row, whole: ids can be copied."""
    update_id = gateway.eks.rollback(f"staging-{LONG}")
    words = (f"staging-{LONG}", update_id)
    await show(gateway, "cancel", *words, "--ticket", "OPS-1", "--reason", "a reason " * 20)
    (cancellation_id,) = (await show(gateway, "history", "-o", "name"))[1][:1]
    for command in (
        ("cancellable",),
        ("list", words[0]),
        ("get", *words),
        ("check", *words),
        ("history",),
        ("show", cancellation_id),
        ("--help",),
        ("cancel", "--help"),
        ("watch", "--help"),
    ):
        code = 1 if command[0] == "check" else 0
        screen = (await show(gateway, *command, code=code))[1]
        assert max(map(len, screen)) <= COLUMNS, command
        if command[0] in ("history", "show"):
            assert any(cancellation_id in line for line in screen)


async def test_a_watch_is_a_live_table(gateway: RunningGateway) -> None:
    """One row for each state: what, since when, for how long; and how old that is."""
    update_id = gateway.eks.rollback("staging-1")
    command = eksgateway_command("watch", "staging-1", update_id)
    async with run_in_terminal(*command, env=user_of(gateway, "oncall", "oncall")) as terminal:
        await wait_until(lambda: "EKS was read 1s ago" in terminal.raw)
        title, header, row, footer, *_ = terminal.screen
        assert title == f"staging-1 {update_id}"
        assert header.split() == ["SINCE", "FOR", "UPDATE", "CANCELLATION", "PHASE"]
        assert re.fullmatch(r"[0-9:]{8}  [0-9]s +InProgress", row)
        assert re.fullmatch(
            r"EKS was read [0-9]s ago; watching for [0-9]+s; Ctrl-C leaves it as it is", footer
        )
        gateway.eks.set_update("staging-1", update_id, status="Cancelled")
        assert await terminal.end() == 0
        rows = [line.split()[-1] for line in terminal.screen[2:4]]
        assert rows == ["InProgress", "CANCELLED"]
        assert terminal.screen[4] == "ended"
        assert max(map(len, terminal.screen)) <= COLUMNS


async def test_a_stale_watch_is_marked(gateway: RunningGateway) -> None:
    update_id = gateway.eks.rollback("staging-1")
    command = eksgateway_command("watch", "staging-1", update_id, "--max-age", "0.5")
    async with run_in_terminal(*command, env=user_of(gateway, "oncall", "oncall")) as terminal:
        await wait_until(lambda: any(line.startswith("STALE: EKS was read ") for line in terminal.screen))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_an_interrupted_live_table_leaves_a_usable_terminal(
    gateway: RunningGateway, number: signal.Signals, code: int
) -> None:
    """With the cursor shown."""
    update_id = gateway.eks.rollback("staging-1")
    command = eksgateway_command("watch", "staging-1", update_id)
    async with run_in_terminal(*command, env=user_of(gateway, "oncall", "oncall")) as terminal:
        await wait_until(lambda: "watching for" in terminal.raw)
        terminal.process.send_signal(number)
        assert await terminal.end() == code
        assert terminal.raw.rindex("\x1b[?25h") > terminal.raw.rindex("\x1b[?25l")
        assert "Traceback" not in terminal.raw


async def test_colors_are_readable_on_dark_and_light(gateway: RunningGateway) -> None:
    """The terminal's own red and green on its own background; none with NO_COLOR."""
    update_id = gateway.eks.rollback("staging-1", update_status="Successful")
    raw, _ = await show(gateway, "get", "staging-1", update_id)
    assert {match[0] for match in COLOR.finditer(raw)} <= {"\x1b[32m", "\x1b[31m"}
    assert "\x1b[32mSuccessful" in raw
    raw, screen = await show(gateway, "get", "staging-1", update_id, NO_COLOR="1")
    assert not COLOR.search(raw)
    assert "status   Successful" in screen


@pytest.mark.parametrize("command", ["get", "watch"])
async def test_a_dumb_terminal_gets_plain_lines(gateway: RunningGateway, command: str) -> None:
    update_id = gateway.eks.rollback("staging-1", update_status="Successful")
    raw, screen = await show(gateway, command, "staging-1", update_id, TERM="dumb")
    assert "\x1b" not in raw
    assert any("Successful" in line for line in screen)


async def test_retries_are_shown_above_the_live_table(gateway: RunningGateway) -> None:
    """The table stays whole below them."""
    update_id = gateway.eks.rollback("staging-1")
    user = user_of(gateway, "oncall", "oncall") | {"EKSGATEWAY_ADDRESS": "127.0.0.1:1"}
    command = eksgateway_command("watch", "staging-1", update_id, "--timeout", "3")
    async with run_in_terminal(*command, env=user) as terminal:
        assert await terminal.end() == 5
        screen = "\n".join(terminal.screen)
        assert screen.count(f"staging-1 {update_id}") == 1
        assert "eksgateway: UNAVAILABLE" in screen
        assert screen.index("trying again") < screen.index("no state yet") < screen.rindex("UNAVAILABLE")
