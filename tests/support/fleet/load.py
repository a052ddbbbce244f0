"""A load on several replicas: cancels with the same request_id at once, repeats, checks and watches."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Any, Final

from eksgateway.model import UpdateRef
from support.fleet.clients import Clients, update_ref
from support.fleet.history import OK, Attempt
from support.fleet.replicas import Fleet, Replica

# Updates by how they go, in seconds. Each ends by itself, as its cancel may never be sent. None may be
# cancelled twice: see ``timeline``.
PLANS: Final[tuple[dict[str, Any], ...]] = (
    {"cancel_delay_s": 0.4, "node_replacing_s": 1.0},
    {"cancel_delay_s": 0.8, "node_replacing_s": 3.0},
    {"on_cancel": "fails", "cancel_delay_s": 0.5, "node_replacing_s": 1.0, "node_phase_s": 5.0},
    {"on_cancel": "completes", "node_phase_s": 4.0},
    {"node_phase_s": 0, "control_plane_phase_s": 6.0},  # too late
    {"node_phase_s": 1.0, "control_plane_phase_s": 1.0},  # may end before the cancel
)
_SETTLED: Final = {OK, "EKS_INVALID_STATE", "EKS_INVALID_REQUEST", "UPDATE_FINISHED", "REQUEST_ID_REUSED"}
_TRIES: Final = 8


@dataclass
class Load:
    """Drives ``actors`` clients, each with one update after the other, until ``stop`` is set."""

    fleet: Fleet
    clients: Clients
    random: Random
    actors: int = 4
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    _numbers: Any = field(default_factory=lambda: count(1))

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(self.actors):
                group.create_task(self._act())

    async def _act(self) -> None:
        while not self.stop.is_set():
            await self._cancel_one_update(next(self._numbers))

    async def _cancel_one_update(self, number: int) -> None:
        ref = self._add_update(number)
        async with asyncio.TaskGroup() as group:
            for _ in range(self.random.choice((0, 1, 2))):
                group.create_task(self.clients.watcher(ref).run(self._choose))
            if self.random.random() < 0.1:
                self.fleet.eks.fault("CancelUpdate", code="ThrottlingException", status=400)
            group.create_task(self._cancel(ref, f"request-{number}"))
            if self.random.random() < 0.3:
                group.create_task(self.clients.check(self._choose(), ref))

    def _add_update(self, number: int) -> UpdateRef:
        cluster = f"prod-{number}"
        usual = {"node_phase_s": 12.0, "control_plane_phase_s": 1.0, "node_replacing_s": 1.0}
        plan = usual | self.random.choice(PLANS)
        update_id = self.fleet.eks.rollback(cluster, tags={"environment": "production"}, **plan)
        return update_ref(cluster, update_id)

    async def _cancel(self, ref: UpdateRef, request_id: str) -> None:
        """On several replicas at once, in a fifth of the cases one with another reason; then repeat."""
        several = [self._choose() for _ in range(self.random.choice((1, 2, 3)))]
        reasons = ["bad AMI"] * len(several)
        if len(several) > 1 and self.random.random() < 0.2:
            reasons[0] = "another reason"
        attempts = await asyncio.gather(
            *(self._try(replica, ref, request_id, why) for replica, why in zip(several, reasons, strict=True))
        )
        tries = 0
        while not any(attempt.result in _SETTLED for attempt in attempts) and tries < _TRIES:
            await asyncio.sleep(self.random.uniform(0.1, 1.0))
            attempts, tries = [await self._try(self._choose(), ref, request_id, "bad AMI")], tries + 1
        if self.random.random() < 0.5:
            await self._try(self._choose(), ref, request_id, "bad AMI")

    async def _try(self, replica: Replica, ref: UpdateRef, request_id: str, reason: str) -> Attempt:
        return await self.clients.cancel(replica, ref, request_id, reason, timeout_s=20)

    def _choose(self) -> Replica:
        return self.random.choice(self.fleet.running or self.fleet.replicas)
