"""The demo: its scenes, its output, and that it leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest
from rich.console import Console

from eksgateway.sandbox.demo_screen import DemoScreen, WatchRow
from support.processes import eksgateway_command, is_alive, list_descendants, list_names, run_program
from support.waiting import wait_until

# In this order. Only a scene with the expected outcome prints these lines.
STORY = (
    "1. An outsider is denied",
    "PERMISSION_DENIED, POLICY_DENIED",
    "You have no grant on this cluster.",
    "2. A viewer may watch",
    "OK: SNAPSHOT, the VersionRollback is InProgress.",
    "PERMISSION_DENIED, POLICY_DENIED",
    "Grant viewers does not allow cancel.",
    "3. On production",
    "PERMISSION_DENIED, POLICY_DENIED",
    "A ticket is required by grant oncall-production.",
    "4. With a ticket",
    "CANCELLATION  InProgress",
    "SNAPSHOT",
    "CHANGE        Cancelling",
    "FINAL         Cancelled",
    "5. On another cluster",
    "FAILED_PRECONDITION, EKS_INVALID_STATE",
    "Phase TOO_LATE",
    "6. The gateway is killed",
    "number 1      InProgress",
    "number 2      Cancelling",
    "killed:       the gateway",
    "started:      another one",
    "FINAL         Cancelled",
    "OK: number 3 follows 2",
    "7. The ledger",
    "outsider  prod-1  denied",
    "viewer    prod-1  denied",
    "oncall    prod-1  denied",
    "oncall    prod-1  CANCELLED",
    "oncall    prod-2  TOO_LATE",
    "oncall    staging-1  CANCELLED",
    "Verified: ",
    "All 7 scenes ended as expected",
)


async def test_demo_plays_its_scenes_in_a_pipe(tmp_path: Path) -> None:
    """Exit code 0, plain text of at most 80 columns, and no files or processes left."""
    async with run_program(*eksgateway_command("demo"), env={"TMPDIR": str(tmp_path)}) as demo:
        await wait_until(lambda: "Both are up" in demo.out)
        family = list_descendants(demo.process.pid)
        assert len(family) == 2
        assert await demo.end() == 0, demo.out + demo.err
        assert demo.err == ""
        place = 0
        for line in STORY:
            assert line in demo.out[place:], f"{line!r} is missing, or comes too early:\n{demo.out}"
            place = demo.out.index(line, place) + len(line)
        lines = demo.out.splitlines()
        assert len(lines) <= 60
        assert max(map(len, lines)) <= 80
        assert re.search(r"[^\n -~]", demo.out) is None
        assert not any(line.endswith(" ") for line in lines)
        assert not any(is_alive(pid) for pid in family)
        assert list_names(tmp_path) == []


@pytest.mark.parametrize("blow", [signal.SIGINT, signal.SIGTERM])
async def test_an_interrupted_demo_leaves_nothing(tmp_path: Path, blow: signal.Signals) -> None:
    """In the middle of a scene: exit code 1, and its processes end."""
    async with run_program(*eksgateway_command("demo"), env={"TMPDIR": str(tmp_path)}) as demo:
        await wait_until(lambda: "SNAPSHOT  " in demo.out)
        family = list_descendants(demo.process.pid)
        demo.process.send_signal(blow)
        assert await demo.end() == 1
        assert demo.out.endswith("Interrupted. Nothing is left running.\n")
        assert demo.err == ""
        assert not any(is_alive(pid) for pid in family)
        assert list_names(tmp_path) == []


async def test_a_failed_scene_is_named(tmp_path: Path) -> None:
    """The scenes after it are played, and the exit code is 1."""
    async with run_program(*eksgateway_command("demo"), env={"TMPDIR": str(tmp_path)}) as demo:
        await wait_until(lambda: "SNAPSHOT  " in demo.out)
        # Its second child is the gateway: without it the stream of scene 4 breaks.
        os.kill(max(list_descendants(demo.process.pid)), signal.SIGKILL)
        assert await demo.end() == 1
        assert "NOT AS EXPECTED: UNAVAILABLE" in demo.out
        assert "7. The ledger" in demo.out
        assert "Not as expected: 4. With a ticket" in demo.out
        assert list_names(tmp_path) == []


def test_a_terminal_gets_a_live_table() -> None:
    """The table stays after the stream."""
    console = Console(force_terminal=True, width=80, record=True, _environ={"TERM": "xterm"})
    with DemoScreen(console).watch_rows() as show:
        show(WatchRow("SNAPSHOT", "InProgress", "", "UNSPECIFIED"))
        show(WatchRow("FINAL", "Cancelled", "Successful", "CANCELLED"))
    shown = console.export_text()
    assert re.search(r"SNAPSHOT +InProgress", shown)
    assert re.search(r"FINAL +Cancelled +Successful +CANCELLED", shown)


@pytest.mark.parametrize(
    "environment", [{"TERM": "dumb"}, {"TERM": "unknown"}], ids=lambda each: each["TERM"]
)
def test_a_dumb_terminal_gets_plain_lines(
    environment: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Without control characters."""
    screen = DemoScreen(Console(force_terminal=True, width=80, highlight=False, _environ=environment))
    screen.heading("1. A scene")
    with screen.watch_rows() as show:
        show(WatchRow("FINAL", "Cancelled", "Successful", "CANCELLED"))
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert re.fullmatch(r"\n1\. A scene\n +0\.0 s  FINAL         Cancelled   Successful  CANCELLED\n", shown)
