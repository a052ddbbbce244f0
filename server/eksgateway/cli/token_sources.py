"""Where a command gets its bearer token from: a text, a file or a program.

Each raises CommandError with the exit code for credentials. ``source`` names the option or setting in it.
"""

from __future__ import annotations

import asyncio
import shlex
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

from eksgateway.cli.exit_codes import CREDENTIALS, CommandError

_TIMEOUT_S: Final = 60.0
_MOST_BYTES: Final = 64 * 1024  # gateways accept less


@dataclass(frozen=True, slots=True)
class TokenText:
    text: str
    source: str

    async def __call__(self) -> str:
        return _check(self.text, self.source)


@dataclass(frozen=True, slots=True)
class TokenFile:
    """Read again for each attempt, because another program may replace it."""

    path: Path
    source: str

    async def __call__(self) -> str:
        try:
            return _check(self.path.read_text(), self.source)
        except OSError as exc:
            raise _error(self.source, f"cannot be read: {exc.strerror}") from exc
        except UnicodeDecodeError as exc:
            raise _error(self.source, "is not text: name a file with the token alone") from exc


@dataclass(eq=False, slots=True)
class TokenCommand:
    """A program that prints a token. It runs once, and again when the gateway refuses the token as expired.

    It runs without a shell and with an empty standard input. ``report`` gets each line of its standard error.
    """

    command: tuple[str, ...]
    source: str
    report: Callable[[str], None]
    timeout_s: float = _TIMEOUT_S
    _token: str = field(default="", init=False)

    async def __call__(self) -> str:
        return self._token or await self.renew()

    async def renew(self) -> str:
        """Run the program again."""
        self._token = _check(await self._run(), self.source)
        return self._token

    async def _run(self) -> str:
        try:
            process = await asyncio.create_subprocess_exec(
                *self.command, stdin=DEVNULL, stdout=PIPE, stderr=PIPE
            )
        except (OSError, ValueError) as exc:
            cause = exc.strerror if isinstance(exc, OSError) else exc
            raise self._command_error(f"cannot be run ({cause})") from exc
        try:
            async with asyncio.timeout(self.timeout_s):
                out, _ = await asyncio.gather(_read(process), self._report_errors(process))
                code = await process.wait()
        except TimeoutError as exc:
            raise self._command_error(f"has not ended after {self.timeout_s:g} s") from exc
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if code:
            raise self._command_error(f"failed with exit code {code}")
        return out.decode(errors="replace")

    async def _report_errors(self, process: Process) -> None:
        assert process.stderr is not None  # noqa: S101  a pipe
        rest = b""
        while block := await process.stderr.read(_MOST_BYTES):
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                self.report(line.decode(errors="replace"))
            rest = rest[-_MOST_BYTES:]
        if rest:
            self.report(rest.decode(errors="replace"))

    def _command_error(self, fault: str) -> CommandError:
        return _error(self.source, f"{fault}: {shlex.join(self.command)}")


TokenSource: TypeAlias = TokenText | TokenFile | TokenCommand


async def _read(process: Process) -> bytes:
    assert process.stdout is not None  # noqa: S101  a pipe
    out = b""
    while block := await process.stdout.read(_MOST_BYTES):
        out = (out + block)[: _MOST_BYTES + 1]
    return out


def _check(text: str, source: str) -> str:
    token = text.strip()
    if not token:
        raise _error(source, "is empty: it must be or give a bearer token")
    if not (token.isascii() and token.isprintable()) or " " in token or len(token) > _MOST_BYTES:
        raise _error(source, "is not a token: it must be one word of printable ASCII characters")
    return token


def _error(source: str, fault: str) -> CommandError:
    return CommandError(f"{source}: {fault}", CREDENTIALS)
