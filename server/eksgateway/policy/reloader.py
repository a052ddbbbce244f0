"""Reloads an in-process policy when its files change."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from eksgateway.blocking import RepeatedRead, run_blocking
from eksgateway.clock import Clock, wait_for
from eksgateway.file_reader import HUNG
from eksgateway.logs import Log
from eksgateway.policy.compile_process import compile_sources
from eksgateway.policy.compiled_policy import CompiledPolicy, find_changes
from eksgateway.policy.engine import PolicyLoadError, Reloads
from eksgateway.policy.files import PolicyContent, PolicyFiles

log = Log(__name__)

POLL_S: Final = 1.0
_CLOSE_S: Final = 2.0
_MAX_LOGGED: Final = 100  # ids in one log event

# Puts a module and data in force and returns their revision. Raises PolicyLoadError.
Replace: TypeAlias = Callable[[bytes, CompiledPolicy], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class _ReadResult:
    content: PolicyContent | None  # None if the files cannot be read
    faults: tuple[str, ...] = ()


class PolicyReloader:
    """Compares the content of the files, so how they are replaced does not matter.

                ┌──────────────── sleep ◄──────────────────────────────┐
                ▼                                                      │
      start ──► read ──► equal to what was tried last, or new ─────────┤
                │        equal at two reads                            │
                └──────► apply: it loads ──► in force, logged ─────────┤
                                it does not ──► old stays, logged ─────┘

    The content must be equal at two reads because a file that is half written may load, for instance
    without the freezes at its end.
    """

    def __init__(
        self,
        files: PolicyFiles,
        clock: Clock,
        replace: Replace,
        content: PolicyContent,
        policy: CompiledPolicy,
    ) -> None:
        self.reloads = Reloads(loaded=1, last=clock.now())
        self._files = files
        self._reader = RepeatedRead(files.read)
        self._clock = clock
        self._replace = replace
        self._last_tried = _ReadResult(content)  # loaded or refused
        self._content, self._policy = content, policy  # in force
        self._wake = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    def start(self, revision: str) -> None:
        log.info("policy.loaded", engine="wasm", revision=revision, content=self._policy.counts)
        self._task = asyncio.create_task(self._run(), name="policy-files")

    def reload_now(self) -> None:
        """Read and apply the files now, even if nothing has changed, so that the log has the result."""
        self._wake.set()

    async def close(self) -> None:
        """Waits up to 2 s for a running load, whose thread cannot be stopped."""
        self._closing = True
        self._wake.set()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=_CLOSE_S)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        before = self._last_tried
        while True:
            requested = await wait_for(self._wake, self._clock, POLL_S)
            self._wake.clear()
            if self._closing:
                return
            try:
                result = await self._read()
                if requested or (result == before and result != self._last_tried):
                    await self._apply(result)
                before = result
            except Exception as exc:  # a bug, or a machine without threads, must not end the polling
                log.exception("policy.unexpected")
                self._refuse((type(exc).__name__,))

    async def _read(self) -> _ReadResult:
        try:
            return _ReadResult(await self._reader.read())
        except PolicyLoadError as exc:
            return _ReadResult(None, exc.faults)
        except TimeoutError:
            return _ReadResult(None, (f"cannot be read: {HUNG}",))

    async def _apply(self, result: _ReadResult) -> None:
        self._last_tried = result
        if result.content is None:
            self._refuse(result.faults)
            return
        try:
            policy = await compile_sources(result.content.sources)
            policy.check_rules(self._clock.now())
            changes = await run_blocking(find_changes, self._policy, policy)
            revision = await self._replace(result.content.wasm, policy)
        except PolicyLoadError as exc:
            self._refuse(exc.faults)
        else:
            self._accept(revision, result.content, policy, changes)

    def _accept(
        self, revision: str, content: PolicyContent, policy: CompiledPolicy, changes: dict[str, list[str]]
    ) -> None:
        fields: dict[str, Any] = {key: _limit_texts(ids) for key, ids in changes.items()}
        if content.wasm != self._content.wasm:
            fields["module_changed"] = True
        log.info("policy.loaded", engine="wasm", revision=revision, content=policy.counts, **fields)
        self._content, self._policy = content, policy
        self.reloads.loaded += 1
        self.reloads.failing = False
        self.reloads.last = self._clock.now()

    def _refuse(self, faults: tuple[str, ...]) -> None:
        log.error(
            "policy.refused",
            data=str(self._files.data),
            faults=list(faults),
            note="The policy from before stays in force, and the gateway stays ready.",
        )
        self.reloads.refused += 1
        self.reloads.failing = True


def _limit_texts(texts: list[str]) -> list[str]:
    more = len(texts) - _MAX_LOGGED
    return [*texts[:_MAX_LOGGED], *([f"and {more} more"] if more > 0 else [])]
