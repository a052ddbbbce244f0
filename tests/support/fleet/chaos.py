"""Random faults on replicas, on PostgreSQL and on the way between them."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random

from support.fleet.replicas import Fleet, Replica


@dataclass
class Chaos:
    """Makes ``faults`` faults: one after the other on replicas, and at the same time on PostgreSQL and the
    network.
    """

    fleet: Fleet
    random: Random
    faults: int
    made: dict[str, int] = field(default_factory=dict)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._make(self._replica_faults(), self.faults // 2))
            group.create_task(self._make(self._database_faults(), self.faults - self.faults // 2))

    async def _make(self, kinds: list[Callable[[], Awaitable[None]]], number: int) -> None:
        for _ in range(number):
            kind = self.random.choice(kinds)
            name = getattr(kind, "__name__", "").strip("_")
            self.made[name] = self.made.get(name, 0) + 1
            await kind()
            await asyncio.sleep(self.random.uniform(0.1, 0.5))

    def _replica_faults(self) -> list[Callable[[], Awaitable[None]]]:
        return [self._kill, self._kill, self._end, self._freeze, self._freeze]

    def _database_faults(self) -> list[Callable[[], Awaitable[None]]]:
        return [
            *(self._restart, self._crash, self._stop, self._freeze_postgres),
            *(self._cut, self._silence, self._refuse, self._delay),
        ]

    # -- Replicas -------------------------------------------------------------------------------

    async def _kill(self) -> None:
        replica = self._choose()
        with self.fleet.fault("kill", replica, ends=True):
            await replica.kill()
            await self._start(replica)

    async def _end(self) -> None:
        replica = self._choose()
        with self.fleet.fault("end", replica, ends=True):
            await replica.end()
            await self._start(replica)

    async def _start(self, replica: Replica) -> None:
        """A supervisor tries again while PostgreSQL is away."""
        while not await replica.try_to_start():  # noqa: ASYNC110
            await asyncio.sleep(0.2)

    async def _freeze(self) -> None:
        """Sometimes for longer than a decision is valid, and than others wait for the chain."""
        replica = self._choose()
        with self.fleet.fault("freeze", replica):
            replica.freeze()
            await asyncio.sleep(self.random.choice((0.3, 1.0, 2.5, 4.5)))
            replica.wake()

    # -- PostgreSQL and the network -------------------------------------------------------------

    async def _restart(self) -> None:
        await self._stop_for(0, signal.SIGINT)

    async def _crash(self) -> None:
        await self._stop_for(0, signal.SIGQUIT)

    async def _stop(self) -> None:
        await self._stop_for(self.random.uniform(0.5, 2.5), signal.SIGINT)

    async def _stop_for(self, seconds: float, mode: signal.Signals) -> None:
        with self.fleet.fault(f"stop {mode.name}", database=True):
            await self.fleet.stop_postgres(mode)
            await asyncio.sleep(seconds)
            await self.fleet.start_postgres()

    async def _freeze_postgres(self) -> None:
        with self.fleet.fault("freeze PostgreSQL", database=True):
            self.fleet.freeze_postgres()
            await asyncio.sleep(self.random.choice((0.5, 1.5, 3.0, 5.0)))
            self.fleet.wake_postgres()

    async def _cut(self) -> None:
        replica = self._choose()
        with self.fleet.fault("cut", replica, database=True):
            replica.network.cut()

    async def _silence(self) -> None:
        replica = self._choose()
        with self.fleet.fault("silence", replica, database=True):
            replica.network.silence()
            await asyncio.sleep(self.random.choice((0.5, 2.0, 5.0)))
            replica.network.restore()

    async def _refuse(self) -> None:
        replica = self._choose()
        with self.fleet.fault("refuse", replica, database=True):
            replica.network.refusing = True
            replica.network.cut()
            await asyncio.sleep(self.random.uniform(0.2, 2.0))
            replica.network.restore()

    async def _delay(self) -> None:
        replica = self._choose()
        with self.fleet.fault("delay", replica, database=True):
            replica.network.delay_s = self.random.choice((0.001, 0.02))
            await asyncio.sleep(self.random.uniform(1.0, 2.0))
            replica.network.delay_s = 0

    def _choose(self) -> Replica:
        return self.random.choice(self.fleet.running or self.fleet.replicas)
