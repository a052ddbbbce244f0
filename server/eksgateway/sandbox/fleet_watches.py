"""Watches that go on in the background of the fleet's demo, over several of its scenes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager

from eksgateway.client import Knowledge
from eksgateway.client.error_report import phase_name
from eksgateway.sandbox.demo_screen import DemoScreen, WatchRow
from eksgateway.sandbox.scenes import SceneFailed


class DemoWatch:
    """``states`` has each state in order. ``report`` gets it as a row, under the watch's name."""

    def __init__(
        self, name: str, states: AsyncGenerator[Knowledge, None], report: Callable[[WatchRow], None]
    ) -> None:
        self.name = name
        self.states: list[Knowledge] = []
        self._report = report
        self._changed = asyncio.Event()
        self._task = asyncio.create_task(self._follow(states))

    async def wait_for(self, status: str) -> None:
        """Wait for a state with this status of the update. Raises SceneFailed, and AioRpcError."""
        while status not in (each.update.status for each in self.states):
            if self._task.done():
                self._task.result()
                raise SceneFailed(f"the watch {self.name} ended without {status}")
            self._changed.clear()
            await self._changed.wait()

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _follow(self, states: AsyncGenerator[Knowledge, None]) -> None:
        try:
            async for state in states:
                self.states.append(state)
                name = f"{self.name}: {'FINAL' if state.final else f'number {state.sequence}'}"
                update = state.update
                self._report(
                    WatchRow(name, update.status, update.cancellation.status, phase_name(state.phase))
                )
                self._changed.set()
        finally:
            self._changed.set()
            await states.aclose()


class RowFeed:
    """Shows rows while a scene has a table. Rows between two tables wait for the next one."""

    def __init__(self, screen: DemoScreen) -> None:
        self._screen = screen
        self._show: Callable[[WatchRow], None] | None = None
        self._waiting: list[WatchRow] = []

    def add(self, row: WatchRow) -> None:
        if self._show is None:
            self._waiting.append(row)
        else:
            self._show(row)

    def note(self, what: str, about: str) -> None:
        self.add(WatchRow(what, about, "", ""))

    @contextmanager
    def table(self) -> Iterator[None]:
        with self._screen.watch_rows() as show:
            self._show = show
            while self._waiting:
                show(self._waiting.pop(0))
            try:
                yield
            finally:
                self._show = None
