"""The demo in a pipe: what it shows, in which order, and that nothing is left of it."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest
from rich.console import Console

from eksgateway.sandbox.demo_screen import Screen, State
from support.processes import alive, children_of, eksgateway, eventually, names_in, program

# In this order; each line is one that only a scene that ended as it should can print.
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
    "All 7 scenes ended as they should",
)


async def test_the_demo_in_a_pipe(tmp_path: Path) -> None:
    """Exit 0, the scenes in order, plain text of at most 80 columns, nothing left in files or processes."""
    async with program(*eksgateway("demo"), env={"TMPDIR": str(tmp_path)}) as demo:
        await eventually(lambda: "They answer" in demo.out)
        family = children_of(demo.process.pid)
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
        assert not any(alive(pid) for pid in family)
        assert names_in(tmp_path) == []


@pytest.mark.parametrize("blow", [signal.SIGINT, signal.SIGTERM])
async def test_interrupted_it_leaves_nothing(tmp_path: Path, blow: signal.Signals) -> None:
    """In the middle of a scene: it says so, exits with 1, and takes all it started along."""
    async with program(*eksgateway("demo"), env={"TMPDIR": str(tmp_path)}) as demo:
        await eventually(lambda: "SNAPSHOT  " in demo.out)
        family = children_of(demo.process.pid)
        demo.process.send_signal(blow)
        assert await demo.end() == 1
        assert demo.out.endswith("Interrupted. Nothing is left running.\n")
        assert demo.err == ""
        assert not any(alive(pid) for pid in family)
        assert names_in(tmp_path) == []


async def test_a_scene_that_goes_wrong(tmp_path: Path) -> None:
    """It is named, those after it are played, and the exit code is 1."""
    async with program(*eksgateway("demo"), env={"TMPDIR": str(tmp_path)}) as demo:
        await eventually(lambda: "SNAPSHOT  " in demo.out)
        # Its second child is the gateway: without it the stream of scene 4 breaks.
        os.kill(max(children_of(demo.process.pid)), signal.SIGKILL)
        assert await demo.end() == 1
        assert "NOT AS IT SHOULD BE: UNAVAILABLE" in demo.out
        assert "7. The ledger" in demo.out
        assert "Not as they should be: 4. With a ticket" in demo.out
        assert names_in(tmp_path) == []


def test_in_a_terminal_the_stream_is_a_table() -> None:
    """Its rows come as the states do; afterwards it stays."""
    console = Console(force_terminal=True, width=80, record=True, _environ={"TERM": "xterm"})
    with Screen(console).watching() as feed:
        feed.add(State("SNAPSHOT", "InProgress", "", "UNSPECIFIED"))
        feed.add(State("FINAL", "Cancelled", "Successful", "CANCELLED"))
    shown = console.export_text()
    assert re.search(r"SNAPSHOT +InProgress", shown)
    assert re.search(r"FINAL +Cancelled +Successful +CANCELLED", shown)


@pytest.mark.parametrize(
    "environment", [{"TERM": "dumb"}, {"TERM": "unknown"}], ids=lambda each: each["TERM"]
)
def test_a_dumb_terminal_gets_plain_lines(
    environment: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """No control characters: it would show them."""
    screen = Screen(Console(force_terminal=True, width=80, highlight=False, _environ=environment))
    screen.heading("1. A scene")
    with screen.watching() as feed:
        feed.add(State("FINAL", "Cancelled", "Successful", "CANCELLED"))
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert re.fullmatch(r"\n1\. A scene\n +0\.0 s  FINAL         Cancelled   Successful  CANCELLED\n", shown)
