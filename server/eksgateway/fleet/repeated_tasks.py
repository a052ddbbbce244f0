"""Work that is repeated at intervals while the gateway runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from eksgateway.clock import Clock
from eksgateway.errors import GatewayError
from eksgateway.fleet.connections import FleetUnavailable
from eksgateway.logs import Log

log = Log(__name__)

Work: TypeAlias = Callable[[], Awaitable[object]]


class RepeatedTasks:
    """``add`` before ``start``. Work that fails is done again after the next interval."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._works: list[tuple[str, float, Work]] = []
        self._tasks: list[asyncio.Task[None]] = []

    def add(self, name: str, interval_s: float, work: Work) -> None:
        """Do ``work`` at each end of an interval. ``name`` is logged when it fails."""
        self._works.append((name, interval_s, work))

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._repeat(*each), name=each[0]) for each in self._works]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _repeat(self, name: str, interval_s: float, work: Work) -> None:
        while True:
            await self._clock.sleep(interval_s)
            try:
                await work()
            except (FleetUnavailable, GatewayError) as exc:
                log.warning("fleet.task_failed", task=name, reason=str(exc))
            except Exception:  # a bug must not end the task
                log.exception("fleet.task_failed", task=name)
