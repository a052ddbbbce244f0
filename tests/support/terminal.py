"""A program in a pseudo-terminal of 80 columns, and what its screen shows."""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import struct
import sys
import termios
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from support.processes import clean_environment, restore_signals
from support.waiting import DEADLINE_S

COLUMNS = 80
# In the program's own process: code between fork and exec is not safe beside gRPC's threads.
_TAKE_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""
_CODES = re.compile(r"\x1b\[(\??[0-9;]*)([A-Za-z])|\r\n|\r|\n|.", re.DOTALL)


class Terminal:
    """``raw`` is all that the program has written so far."""

    def __init__(self, process: Process, descriptor: int) -> None:
        self.process = process
        self.raw = ""
        self._descriptor = descriptor
        self._closed = asyncio.Event()
        asyncio.get_running_loop().add_reader(descriptor, self._read)

    def _read(self) -> None:
        try:
            block = os.read(self._descriptor, 65536)
        except OSError:  # the program has ended
            block = b""
        if not block:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            self._closed.set()
        self.raw += block.decode(errors="replace")

    @property
    def screen(self) -> list[str]:
        """The lines as they stand, without styles."""
        lines, row, column = [""], 0, 0
        for match in _CODES.finditer(self.raw):
            text, code, times = match[0], match[2], match[1] or ""
            if code == "A":
                row = max(0, row - int(times or 1))
            elif code == "K":
                lines[row] = ""
            elif text == "\r":
                column = 0
            elif text in ("\n", "\r\n"):
                row, column = row + 1, 0 if text == "\r\n" else column
                lines += [""] * (row + 1 - len(lines))
            elif code is None:
                lines[row] = f"{lines[row]:<{column}}"[:column] + text + lines[row][column + 1 :]
                column += 1
        return [each.rstrip() for each in lines]

    def press(self, keys: str) -> None:
        os.write(self._descriptor, keys.encode())

    async def end(self) -> int:
        async with asyncio.timeout(DEADLINE_S):
            await self._closed.wait()
            return await self.process.wait()


@asynccontextmanager
async def run_in_terminal(
    *command: str, env: Mapping[str, str] | None = None, term: str = "xterm-256color"
) -> AsyncIterator[Terminal]:
    """Run a program whose standard streams are the terminal."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    process = await asyncio.create_subprocess_exec(
        *restore_signals(sys.executable, "-c", _TAKE_TERMINAL, *command),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        env=clean_environment({"TERM": term, **(env or {})}),
    )
    os.close(theirs)
    shown = Terminal(process, ours)
    try:
        yield shown
    finally:
        if process.returncode is None:
            process.kill()
        await shown.end()
        os.close(ours)
