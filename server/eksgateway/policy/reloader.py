"""Keeps a policy in the process up to date with its files; what does not load leaves the old one in force."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from eksgateway.blocking import RepeatedRead, run_blocking
from eksgateway.clock import Clock, wait_for
from eksgateway.file_reader import HUNG
from eksgateway.logs import Log
from eksgateway.policy.data import changes, describe
from eksgateway.policy.engine import PolicyLoadError, Reloads
from eksgateway.policy.files import Content, PolicyFiles

log = Log(__name__)

POLL_S: Final = 1.0
_LAST_MOMENT_S: Final = 2.0
_TOLD: Final = 100  # a line of the log has room for that many ids or faults

# Puts a module and data in force and gives their revision, or raises PolicyLoadError.
Replace = Callable[[bytes, dict[str, Any]], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class _Look:
    """What was found in the files, or why they cannot be read."""

    content: Content | None
    faults: tuple[str, ...] = ()


class Follower:
    """One task. It compares contents and nothing else, so it does not matter how files are replaced: in
    place, by rename, or by a link that points elsewhere.

                ┌──────────────── rest ◄─────────────────────────────┐
                ▼                                                    │
      start ──► look ──► what was judged before, or not yet ─────────┤
                │        the same at two looks                       │
                └─► judge: it loads ──► in force, and told ──────────┤
                           it does not ──► the old one stays, told ──┘

    Two looks, because a file that is half written may load: without the freezes at its end, say.
    A look that was asked for is judged at once, even if nothing has changed: who asks wants to know.
    """

    def __init__(
        self, files: PolicyFiles, clock: Clock, replace: Replace, content: Content, data: dict[str, Any]
    ) -> None:
        self.reloads = Reloads(loaded=1, last=clock.now())
        self._files = files
        self._reader = RepeatedRead(files.read)
        self._clock = clock
        self._replace = replace
        self._judged = _Look(content)
        self._content, self._data = content, data  # in force
        self._wake = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    def start(self, revision: str) -> None:
        """Tell what is in force, and follow its files from now on."""
        log.info("policy.loaded", engine="wasm", revision=revision, content=describe(self._data))
        self._task = asyncio.create_task(self._run(), name="policy-files")

    def look(self) -> None:
        """Look now."""
        self._wake.set()

    async def close(self) -> None:
        """Wait a moment for what is being read and loaded, if anything is: its thread cannot be stopped."""
        self._closing = True
        self._wake.set()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=_LAST_MOMENT_S)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        before = self._judged
        while True:
            asked = await wait_for(self._wake, self._clock, POLL_S)
            self._wake.clear()
            if self._closing:
                return
            try:
                found = await self._look()
                if asked or (found == before and found != self._judged):
                    await self._judge(found)
                before = found
            except Exception as exc:  # a bug, or a machine without threads, must not end the following
                log.exception("policy.unexpected")
                self._refused((type(exc).__name__,))

    async def _look(self) -> _Look:
        try:
            return _Look(await self._reader.read())
        except PolicyLoadError as exc:
            return _Look(None, exc.faults)
        except TimeoutError:
            return _Look(None, (f"cannot be read: {HUNG}",))

    async def _judge(self, found: _Look) -> None:
        self._judged = found
        if found.content is None:
            self._refused(found.faults)
            return
        try:
            data = await run_blocking(self._files.parse, found.content)
            revision = await self._replace(found.content.wasm, data)
        except PolicyLoadError as exc:
            self._refused(exc.faults)
        else:
            self._loaded(revision, found.content, data)

    def _loaded(self, revision: str, content: Content, data: dict[str, Any]) -> None:
        told: dict[str, Any] = {what: _some(names) for what, names in changes(self._data, data).items()}
        if content.wasm != self._content.wasm:
            told["module_changed"] = True
        log.info("policy.loaded", engine="wasm", revision=revision, content=describe(data), **told)
        self._content, self._data = content, data
        self.reloads.loaded += 1
        self.reloads.failing = False
        self.reloads.last = self._clock.now()

    def _refused(self, faults: tuple[str, ...]) -> None:
        log.error(
            "policy.refused",
            data=str(self._files.data),
            faults=_some(faults),
            note="The policy from before stays in force, and the gateway stays ready.",
        )
        self.reloads.refused += 1
        self.reloads.failing = True


def _some(texts: tuple[str, ...] | list[str]) -> list[str]:
    more = len(texts) - _TOLD
    return [*texts[:_TOLD], *([f"and {more} more"] if more > 0 else [])]
