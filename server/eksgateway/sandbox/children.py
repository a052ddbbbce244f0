"""Child processes. Each prints one line when it is up, and ends when its standard input closes.

Only the parent holds the other end of that pipe, so no child outlives a parent that was killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from eksgateway.errors import StartError

_START_TIMEOUT_S: Final = 60.0
_LOG_LINES: Final = 8


class ChildFailed(StartError):
    """The text has the last lines of the child's log."""


@dataclass(eq=False, slots=True)
class Child:
    """A running ``eksgateway <command>``. ``address`` comes from its first line.

    A child that prints more is read with ``read_address``.
    """

    name: str
    _process: Process
    _log: Path
    _log_start: int
    address: str = ""

    @classmethod
    async def start(
        cls, name: str, *arguments: str, address_pattern: str, env: Mapping[str, str], log: Path
    ) -> Self:
        """Wait for its first line. ``address_pattern`` has a group for the address. Raises ChildFailed."""
        # -P: the working directory has none of our modules.
        program = (sys.executable, "-P", "-m", "eksgateway")
        with log.open("ab") as errors:
            process = await asyncio.create_subprocess_exec(
                *program,
                *arguments,
                "--stop-on-stdin-eof",
                stdin=PIPE,
                stdout=PIPE,
                stderr=errors,
                env=env,
                start_new_session=True,  # Ctrl-C reaches the parent alone, which ends its children
            )
            child = cls(name, process, log, errors.tell())
        try:
            child.address = await child.read_address(address_pattern)
        except BaseException:
            await child.kill()
            raise
        return child

    @property
    def pid(self) -> int:
        return self._process.pid

    async def wait(self) -> str:
        """Return the exit code or signal, as text."""
        code = await self._process.wait()
        return f"exit code {code}" if code >= 0 else signal.Signals(-code).name

    async def stop(self, timeout_s: float) -> None:
        """Send SIGTERM, and SIGKILL after ``timeout_s``."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            async with asyncio.timeout(timeout_s):
                await self._process.wait()
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    def failure(self, what: str) -> ChildFailed:
        with self._log.open("rb") as file:
            file.seek(self._log_start)
            lines = file.read().decode(errors="replace").splitlines()
        # Messages for people are not JSON. Without any, use the last events.
        messages = [line for line in lines if not line.startswith("{")] or lines
        return ChildFailed("\n  ".join([f"{self.name} {what}", *messages[-_LOG_LINES:]]))

    async def read_address(self, pattern: str) -> str:
        """Wait for its next line, which has another of its addresses. Raises ChildFailed."""
        assert self._process.stdout is not None  # noqa: S101 - started with PIPE
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                line = (await self._process.stdout.readline()).decode()
        except TimeoutError:
            raise self.failure(f"did not start within {_START_TIMEOUT_S:.0f} s") from None
        found = re.search(pattern, line)
        if found is None:
            await self._process.wait()
            raise self.failure("ended while it started")
        return found[1]
