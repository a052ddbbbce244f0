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
from eksgateway.policy.engine import PolicyLoadError, Reloads
from eksgateway.policy.files import PolicyContent, PolicyFiles
from eksgateway.policy.source import Content, count_entries, parse_sources

log = Log(__name__)

POLL_S: Final = 1.0
_CLOSE_S: Final = 2.0
_MAX_LOGGED: Final = 100  # ids in one log event

# Puts a module and data in force and returns their revision. Raises PolicyLoadError.
Replace: TypeAlias = Callable[[bytes, dict[str, Any]], Awaitable[str]]


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
        data: dict[str, Any],
    ) -> None:
        self.reloads = Reloads(loaded=1, last=clock.now())
        self._files = files
        self._reader = RepeatedRead(files.read)
        self._clock = clock
        self._replace = replace
        self._last_tried = _ReadResult(content)  # loaded or refused
        self._content, self._data = content, data  # in force
        self._wake = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    def start(self, revision: str) -> None:
        log.info(
            "policy.loaded", engine="wasm", revision=revision, content=count_entries(self._data["eksgateway"])
        )
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
            data = {"eksgateway": await run_blocking(parse_sources, result.content.sources)}
            revision = await self._replace(result.content.wasm, data)
        except PolicyLoadError as exc:
            self._refuse(exc.faults)
        else:
            self._accept(revision, result.content, data)

    def _accept(self, revision: str, content: PolicyContent, data: dict[str, Any]) -> None:
        fields: dict[str, Any] = {
            key: _limit_texts(ids)
            for key, ids in _changes(self._data["eksgateway"], data["eksgateway"]).items()
        }
        if content.wasm != self._content.wasm:
            fields["module_changed"] = True
        log.info(
            "policy.loaded",
            engine="wasm",
            revision=revision,
            content=count_entries(data["eksgateway"]),
            **fields,
        )
        self._content, self._data = content, data
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


def _changes(before: Content, after: Content) -> dict[str, list[str]]:
    """The ids of the entries that were added, removed or changed."""
    ids = {}
    for kind in after:
        old, new = ({each["id"]: each for each in content[kind]} for content in (before, after))
        ids[f"{kind}_added"] = [name for name in new if name not in old]
        ids[f"{kind}_removed"] = [name for name in old if name not in new]
        ids[f"{kind}_changed"] = [name for name in new if name in old and old[name] != new[name]]
    return {change: names for change, names in ids.items() if names}
