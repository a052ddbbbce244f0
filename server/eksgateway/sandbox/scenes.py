"""Plays scenes on a sandbox, for the demos. Each scene checks its own outcome; others follow a failed one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, Generic, TypeAlias, TypeVar

import grpc

from eksgateway.sandbox.demo_screen import DemoScreen
from eksgateway.sandbox.options import SandboxOptions
from eksgateway.sandbox.sandbox import Sandbox, open_sandbox
from eksgateway.signals import run_until, stop_event

T = TypeVar("T")
C = TypeVar("C")  # what the scenes of one demo share

Scene: TypeAlias = tuple[str, Callable[[C], Awaitable[None]]]  # its heading, and its play

JUSTIFICATION: Final = {"reason": "bad AMI", "ticket": "OPS-12"}  # of the cancels
_POLL_S: Final = 0.1


class SceneFailed(Exception):
    """The text describes the unexpected outcome."""


@dataclass(frozen=True, slots=True)
class Demo(Generic[C]):
    """``prepare`` is entered once the sandbox is up. The scenes together take at most ``limit_s``."""

    options: SandboxOptions
    opening: str
    ready: str
    prepare: Callable[[Sandbox, DemoScreen], AbstractAsyncContextManager[C]]
    scenes: Sequence[Scene[C]]
    limit_s: float

    async def run(self, screen: DemoScreen) -> int:
        """Return the exit code: 0 if each scene had the expected outcome. Raises StartError."""
        started = time.monotonic()
        failed: list[str] = []
        screen.paragraph(self.opening)
        with stop_event() as stop:
            async with open_sandbox(self.options, screen.paragraph) as sandbox:
                finished = await run_until(stop, self._play(sandbox, screen, failed))
        screen.paragraph("")
        if not finished:
            screen.paragraph("Interrupted. Nothing is left running.")
            return 1
        if failed:
            screen.paragraph(f"Not as expected: {'; '.join(failed)}.", "bold red")
            return 1
        screen.paragraph(
            f"All {len(self.scenes)} scenes ended as expected, in {time.monotonic() - started:.0f} s."
            " Nothing is left running.",
            "bold",
        )
        return 0

    async def _play(self, sandbox: Sandbox, screen: DemoScreen, failed: list[str]) -> None:
        await sandbox.start()
        screen.paragraph(self.ready)
        async with self.prepare(sandbox, screen) as context:
            deadline = asyncio.get_running_loop().time() + self.limit_s
            for number, (heading, play) in enumerate(self.scenes, 1):
                screen.heading(f"{number}. {heading}")
                try:
                    async with asyncio.timeout_at(deadline):
                        await play(context)
                except SceneFailed as exc:
                    screen.failure(str(exc))
                except TimeoutError:
                    screen.failure("it did not end in time")
                except grpc.aio.AioRpcError as exc:
                    screen.failure(f"{exc.code().name}: {exc.details()}")
                else:
                    continue
                failed.append(f"{number}. {heading}")


def expect(condition: bool, otherwise: str) -> None:
    if not condition:
        raise SceneFailed(otherwise)


async def poll(read: Callable[[], Awaitable[T]], condition: Callable[[T], bool]) -> T:
    """Read until the condition holds, or the scenes' time limit ends it."""
    while True:
        found = await read()
        if condition(found):
            return found
        await asyncio.sleep(_POLL_S)
