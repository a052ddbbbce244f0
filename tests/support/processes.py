"""Child processes: output kept, waits with deadlines, ended by id."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

from support.waiting import DEADLINE_S


class RunningProgram:
    """A running program. ``out`` and ``err`` are its output so far."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.out = ""
        self.err = ""
        assert process.stdout
        assert process.stderr
        self._readers = (
            asyncio.create_task(self._keep("out", process.stdout)),
            asyncio.create_task(self._keep("err", process.stderr)),
        )

    async def _keep(self, name: str, stream: asyncio.StreamReader) -> None:
        while line := await stream.readline():
            setattr(self, name, getattr(self, name) + line.decode())

    async def end(self, deadline_s: float = DEADLINE_S) -> int:
        """Wait for the end of its output; returns its exit code."""
        async with asyncio.timeout(deadline_s):
            await asyncio.gather(*self._readers)
            return await self.process.wait()


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without variables that change colors or width of output."""
    hidden = ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS", "NO_COLOR")
    return {name: value for name, value in os.environ.items() if name not in hidden} | dict(extra or {})


@asynccontextmanager
async def run_program(*command: str, env: Mapping[str, str] | None = None) -> AsyncIterator[RunningProgram]:
    """Run a program. Terminated at the end, and killed if it does not stop."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=PIPE, stderr=PIPE, env=clean_environment(env)
    )
    running = RunningProgram(process)
    try:
        yield running
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            await running.end()
        except TimeoutError:
            process.kill()
            raise


def eksgateway_command(*arguments: str) -> tuple[str, ...]:
    """The command line of `eksgateway`, with warnings as errors."""
    return (sys.executable, "-W", "error", "-m", "eksgateway", *arguments)


def restore_signals(*command: str) -> tuple[str, ...]:
    """The command with signals as on a terminal. Background jobs of a shell ignore SIGINT, nohup SIGHUP."""
    restore = "import os, signal as s, sys; [s.signal(each, s.SIG_DFL) for each in (s.SIGINT, s.SIGHUP)]"
    return (sys.executable, "-c", f"{restore}; os.execvp(sys.argv[1], sys.argv[1:])", *command)


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def list_names(folder: Path) -> list[str]:
    """The names in a folder, in order."""
    return sorted(each.name for each in folder.iterdir())


def list_children() -> set[int]:
    """The ids of this process's children."""
    found: set[int] = set()
    for thread in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # it has ended
            found.update(map(int, (thread / "children").read_text().split()))
    return found


def list_descendants(pid: int) -> set[int]:
    """The ids of a process's children, and of theirs."""
    found: set[int] = set()
    waiting = [pid]
    while waiting:
        parent = waiting.pop()
        for tasks in Path(f"/proc/{parent}/task").glob("*/children"):
            new = {int(word) for word in tasks.read_text().split()} - found
            found |= new
            waiting += new
    return found


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """The process does nothing during the block."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
