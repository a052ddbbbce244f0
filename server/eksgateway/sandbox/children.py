"""Processes of our own: each says when it is up, and ends when its standard input closes.

So that nothing outlives a killed parent: the parent alone holds the other end of that pipe.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from eksgateway.errors import StartError

_UP_WITHIN_S = 60.0
_LINES_TOLD = 8


class ChildFailed(StartError):
    """A child that ended, or that did not come up; the text says why, as far as its log does."""


class Child:
    """A running ``eksgateway <command>``. ``announced`` is what its first line says of where it is."""

    def __init__(self, name: str, process: Process, log: Path, log_start: int) -> None:
        self.name = name
        self.announced = ""
        self._process = process
        self._log = log
        self._log_start = log_start

    @classmethod
    async def start(
        cls, name: str, *arguments: str, announces: str, env: Mapping[str, str], log: Path
    ) -> Self:
        """Start it, and wait for its first line, of which the group in ``announces`` is kept.

        Raises ChildFailed. Standard error goes to the end of ``log``.
        """
        with log.open("ab") as errors:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # the folder that the user is in holds no modules of ours
                "-m",
                "eksgateway",
                *arguments,
                "--stop-on-stdin-eof",
                stdin=PIPE,
                stdout=PIPE,
                stderr=errors,
                env=env,
                start_new_session=True,  # a terminal's Ctrl-C is for the parent, which ends its children
            )
            child = cls(name, process, log, errors.tell())
        try:
            child.announced = await child._announcement(announces)
        except BaseException:
            await child.kill()
            raise
        return child

    @property
    def pid(self) -> int:
        return self._process.pid

    async def wait(self) -> str:
        """Wait for its end; how it ended, in words."""
        code = await self._process.wait()
        return f"exit code {code}" if code >= 0 else signal.Signals(-code).name

    async def stop(self, within_s: float) -> None:
        """SIGTERM, and SIGKILL for one that does not end in time."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            async with asyncio.timeout(within_s):
                await self._process.wait()
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    def failed(self, what: str) -> ChildFailed:
        """An error with the last lines of this child's log."""
        with self._log.open("rb") as file:
            file.seek(self._log_start)
            lines = file.read().decode(errors="replace").splitlines()
        # What is meant for people is not JSON; without any, the log's last events have to do.
        told = [line for line in lines if not line.startswith("{")] or lines
        return ChildFailed("\n  ".join([f"{self.name} {what}", *told[-_LINES_TOLD:]]))

    async def _announcement(self, pattern: str) -> str:
        assert self._process.stdout is not None  # noqa: S101 - it was given PIPE
        try:
            async with asyncio.timeout(_UP_WITHIN_S):
                line = (await self._process.stdout.readline()).decode()
        except TimeoutError:
            raise self.failed(f"did not come up within {_UP_WITHIN_S:.0f} s") from None
        found = re.search(pattern, line)
        if found is None:
            await self._process.wait()
            raise self.failed("ended while it started")
        return found[1]
