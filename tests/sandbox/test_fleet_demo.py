"""The demo of a fleet: its scenes, its output, and that it leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

from support.processes import eksgateway_command, is_alive, list_descendants, list_names, run_program
from support.waiting import wait_until

# In this order. Only a scene with the expected outcome prints these lines.
STORY = (
    "1. A viewer watches",
    "number 1   InProgress",
    "number 1   InProgress",
    "2. The same request_id",
    "OK: one cancellation, and EKS received one CancelUpdate.",
    "3. Gateway C is killed",
    "killed:       gateway C",
    "Cancelling",
    "Cancelling",
    "OK: both watches go on.",
    "4. Gateway B is killed",
    "killed:       gateway B",
    "FINAL",
    "FINAL",
    "from A follows number",
    "5. PostgreSQL stops",
    "stopped:      PostgreSQL",
    "UNAVAILABLE, LEDGER_UNAVAILABLE",
    "FINAL      Cancelled",
    "FINAL      Cancelled",
    "OK: EKS received no CancelUpdate for staging-2",
    "6. PostgreSQL starts again",
    "OK: accepted, and EKS received one CancelUpdate for staging-2.",
    "7. One ledger",
    "prod-1     CANCELLED",
    "staging-1  CANCELLED",
    "Verified: ",
    "8. EKS calls",
    "of which 3 CancelUpdate.",
    "All 8 scenes ended as expected",
)


async def test_demo_of_a_fleet_plays_its_scenes(tmp_path: Path) -> None:
    """Exit code 0, plain text of at most 80 columns, and no files or processes left."""
    async with run_program(*eksgateway_command("demo", "--fleet"), env={"TMPDIR": str(tmp_path)}) as demo:
        await wait_until(lambda: "All are up" in demo.out)
        family = list_descendants(demo.process.pid)
        assert await demo.end(200) == 0, demo.out + demo.err
        assert demo.err == ""
        place = 0
        for line in STORY:
            assert line in demo.out[place:], f"{line!r} is missing, or comes too early:\n{demo.out}"
            place = demo.out.index(line, place) + len(line)
        lines = demo.out.splitlines()
        assert len(lines) <= 70
        assert max(map(len, lines)) <= 80
        assert re.search(r"[^\n -~]", demo.out) is None
        assert not any(line.endswith(" ") for line in lines)
        assert not any(is_alive(pid) for pid in family)
        assert list_names(tmp_path) == []


async def test_an_interrupted_demo_of_a_fleet_leaves_nothing(tmp_path: Path) -> None:
    """While a killed gateway is missing."""
    async with run_program(*eksgateway_command("demo", "--fleet"), env={"TMPDIR": str(tmp_path)}) as demo:
        await wait_until(lambda: "killed:       gateway C" in demo.out)
        family = list_descendants(demo.process.pid)
        demo.process.send_signal(signal.SIGINT)
        assert await demo.end() == 1
        assert demo.out.endswith("Interrupted. Nothing is left running.\n")
        assert demo.err == ""
        assert not any(is_alive(pid) for pid in family)
        assert list_names(tmp_path) == []


async def test_a_failed_scene_of_a_fleet_is_named(tmp_path: Path) -> None:
    """Gateway A is killed as well, so the watch of B has nowhere to go."""
    async with run_program(*eksgateway_command("demo", "--fleet"), env={"TMPDIR": str(tmp_path)}) as demo:
        await wait_until(lambda: "All are up" in demo.out)
        first = next(pid for pid in sorted(list_descendants(demo.process.pid)) if serves(pid, "gateway-1"))
        await wait_until(lambda: "killed:       gateway B" in demo.out)
        os.kill(first, signal.SIGKILL)
        assert await demo.end(200) == 1
        assert "NOT AS EXPECTED: " in demo.out
        assert "Not as expected: 4. Gateway B is killed" in demo.out


def serves(pid: int, name: str) -> bool:
    """Whether the process is the gateway with these settings."""
    return f"/{name}.yaml" in Path(f"/proc/{pid}/cmdline").read_text()
