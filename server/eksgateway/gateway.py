"""A gateway's life: start, become ready, reload, drain and close."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from eksgateway import file_descriptors
from eksgateway.clock import Clock
from eksgateway.idempotency import IdempotentCancels
from eksgateway.identity.tokens import JwtIdentity
from eksgateway.ledger.protocol import Ledger
from eksgateway.logs import Log
from eksgateway.metrics_server import MetricsServer
from eksgateway.policy.engine import PolicyEngine
from eksgateway.rpc.health import HealthService, ReadinessCheck, run_readiness_checks
from eksgateway.rpc.idle_connections import IdleConnections
from eksgateway.rpc.interceptors.limits import Limits
from eksgateway.rpc.listener import Listener
from eksgateway.settings import Settings
from eksgateway.watch.following import Following
from eksgateway.watch.watches import Watches

if TYPE_CHECKING:
    from eksgateway.edge.server import HttpEdge
    from eksgateway.fleet.fleet import Fleet

log = Log(__name__)

_FIRST_KEYS_S: Final = 2.0  # for the issuers' keys, before the first check of readiness
_SEND_S: Final = 1.0  # for answers that are not sent yet


@dataclass(slots=True)
class Gateway:
    """The parts that start, drain or close. ``warm`` ends once EKS can be called.

    ``closers`` are called in order. ``checks`` are those of readiness, by the part's name.
    """

    settings: Settings
    clock: Clock
    policy: PolicyEngine
    ledger: Ledger
    listeners: Sequence[Listener]
    limits: Limits
    idle_connections: IdleConnections
    health: HealthService
    watches: Watches
    following: Following
    cancels: IdempotentCancels
    metrics: MetricsServer
    edge: HttpEdge | None
    tokens: JwtIdentity | None
    fleet: Fleet | None
    warm: Callable[[], Awaitable[None]] | None
    checks: dict[str, ReadinessCheck]
    closers: Sequence[Callable[[], Awaitable[Any]]]
    _readiness: asyncio.Task[None] | None = field(default=None)

    async def start(self) -> None:
        """Bind and serve, not ready yet. Pending cancellations are followed, and never sent again.

        Raises SettingsError when an address cannot be bound or its certificate cannot be used.
        """
        if self.tokens is not None:
            self.tokens.start()
        for listener in self.listeners:
            await listener.bind()
        await self.metrics.start()
        await self.following.start(replicas=self.fleet is not None)
        if self.fleet is not None:
            self.fleet.start()
        for listener in self.listeners:
            await listener.start()
        if self.edge is not None:
            await self.edge.start()
        listeners = {each.address: each.settings.demand for each in self.listeners}
        http, metrics = self.edge.address if self.edge else None, self.metrics.address or None
        log.info("gateway.started", listeners=listeners, http=http, metrics=metrics)

    async def become_ready(self) -> None:
        """Keep readiness true to the checks from now on. Raises the errors of ``warm``."""
        if self.warm is not None:
            await self.warm()
        if self.tokens is not None:
            await self.tokens.wait_for_keys(_FIRST_KEYS_S)
        self._readiness = asyncio.create_task(run_readiness_checks(self.health, self.checks, self.clock))

    async def make_room(self) -> None:
        """End idle connections of listeners that hold nearly all they may."""
        ports = [listener.port for listener in self.listeners]
        await self.idle_connections.end_idle(ports, file_descriptors.max_connections(self.settings))

    def reload(self) -> None:
        """Read the policy and the issuers' keys again. Certificates are renewed without this."""
        self.policy.reload()
        if self.tokens is not None:
            self.tokens.reload()

    async def stop(self) -> None:
        """Drain: turn readiness off, refuse new calls, let those in flight finish, and close the parts.

        The grpc servers stop after the drain, because they refuse connections without the reason DRAINING.
        """
        log.info("gateway.draining")
        self.health.drain()
        self.limits.drain()
        if self.edge is not None:
            self.edge.drain()
        self.watches.drain()
        until = self.clock.monotonic() + self.settings.limits.drain_s
        await self.limits.wait_until_idle(self.settings.limits.drain_s)
        await self.cancels.finish(until - self.clock.monotonic())
        ends = [listener.stop(_SEND_S) for listener in self.listeners]
        await asyncio.gather(*ends, *([self.edge.stop(_SEND_S)] if self.edge else []))
        if self._readiness is not None:
            self._readiness.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._readiness
        for close in self.closers:
            try:
                await close()
            except Exception:  # the ledger must still write its queue when another part fails
                log.exception("gateway.close_failed")
        log.info("gateway.stopped")
