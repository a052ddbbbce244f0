"""Wires the parts together: the services, the interceptor list, and a server's life."""

from __future__ import annotations

import asyncio
import contextlib
import random
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, cast

from grpc_health.v1 import health_pb2_grpc

from eksgateway import file_descriptors
from eksgateway.cancellable_updates import CancellableUpdates
from eksgateway.cancellation import Cancellations
from eksgateway.clock import Clock
from eksgateway.decisions import Decisions
from eksgateway.eks.budget import Budget
from eksgateway.eks.budgeted import BudgetedEks
from eksgateway.eks.protocol import Eks
from eksgateway.eks.shared_reads import SharedReads
from eksgateway.eks.target_budget import Lane
from eksgateway.idempotency import IdempotentCancels
from eksgateway.identity.listener_identity import choose_identity
from eksgateway.identity.tokens import JwtIdentity
from eksgateway.ledger.protocol import Ledger
from eksgateway.logs import Log
from eksgateway.metrics import Metrics
from eksgateway.metrics_server import MetricsServer
from eksgateway.model import Cancellation
from eksgateway.policy.engine import PolicyEngine
from eksgateway.rights.reauthorization import Reauthorization
from eksgateway.rpc.admission import Admission
from eksgateway.rpc.cancellation_service import CancellationService
from eksgateway.rpc.cpu_load import CpuLoad
from eksgateway.rpc.health import HealthService, ReadinessCheck, run_readiness_checks
from eksgateway.rpc.idle_connections import IdleConnections
from eksgateway.rpc.interceptors.access_log import AccessLog
from eksgateway.rpc.interceptors.authenticate import Authenticate
from eksgateway.rpc.interceptors.authorize import Authorize
from eksgateway.rpc.interceptors.chain import Chain
from eksgateway.rpc.interceptors.limits import CallerLimits, Limits
from eksgateway.rpc.interceptors.seats import MoveSeat, RefusalLog, TakeSeat
from eksgateway.rpc.listener import Listener
from eksgateway.rpc.reflection import add_reflection
from eksgateway.rpc.update_service import UpdateService
from eksgateway.settings import ListenerSettings, Settings
from eksgateway.v1 import cancellation_service_pb2_grpc, update_service_pb2_grpc
from eksgateway.watch.watches import Watches

log = Log(__name__)

_FIRST_KEYS_S = 2.0  # for the issuers' keys, before readiness is looked at for the first time
_LAST_WORDS_S = 1.0  # for what was answered and is not sent yet


async def _nothing() -> None:
    """Wait for nothing."""


@dataclass(slots=True)
class Gateway:
    """A built gateway: ``start`` binds and takes up what is pending, ``become_ready`` lets its health
    say so, ``stop`` drains. ``warm`` is what has to be done until it is ready.
    """

    listeners: list[Listener]
    settings: Settings
    limits: Limits
    health: HealthService
    watches: Watches
    cancellations: Cancellations
    cancels: IdempotentCancels
    checks: dict[str, ReadinessCheck]
    policy: PolicyEngine
    ledger: Ledger
    metrics: MetricsServer
    clock: Clock
    idle_connections: IdleConnections
    connections: int
    closers: list[Callable[[], Any]]
    tokens: JwtIdentity | None = None
    warm: Callable[[], Awaitable[None]] = _nothing
    _probe: asyncio.Task[None] | None = field(default=None)

    async def start(self) -> None:
        """Bind and serve, not ready yet. Raises SettingsError when an address cannot be bound, or its
        certificate used.
        """
        if self.tokens is not None:
            self.tokens.start()
        for listener in self.listeners:
            await listener.bind()
        await self.metrics.start()
        await self.cancellations.follow_pending()
        for listener in self.listeners:
            await listener.start()
        listeners = {each.address: each.settings.demand for each in self.listeners}
        log.info("gateway.started", listeners=listeners, metrics=self.metrics.address or None)

    async def become_ready(self) -> None:
        """Be ready from now on, whenever every part can do its work. Raises what ``warm`` does."""
        await self.warm()
        if self.tokens is not None:
            await self.tokens.wait_for_keys(_FIRST_KEYS_S)
        self._probe = asyncio.create_task(run_readiness_checks(self.health, self.checks, self.clock))

    async def make_room(self) -> None:
        """End quiet connections where nearly all are held."""
        await self.idle_connections.end_idle([listener.port for listener in self.listeners], self.connections)

    def reload(self) -> None:
        """Look for another policy and other keys now; certificates are renewed by themselves."""
        self.policy.reload()
        if self.tokens is not None:
            self.tokens.reload()

    async def stop(self) -> None:
        """Health first, then turn calls away, let those in flight finish, then close the parts.

        Core's own stop comes last: it refuses connections, and cannot say DRAINING.
        """
        log.info("gateway.draining")
        self.health.drain()
        self.limits.drain()
        self.watches.drain()
        ends = self.clock.monotonic() + self.settings.limits.drain_s
        await self.limits.wait_until_idle(self.settings.limits.drain_s)
        await self.cancels.finish(ends - self.clock.monotonic())
        await asyncio.gather(*(listener.stop(_LAST_WORDS_S) for listener in self.listeners))
        if self._probe is not None:
            self._probe.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._probe
        for close in self.closers:
            try:
                await close()
            except Exception:  # one part's trouble must not keep the ledger from writing what it owes
                log.exception("gateway.close_failed")
        log.info("gateway.stopped")


def build_server(  # noqa: PLR0913  the parts that are opened elsewhere
    settings: Settings,
    *,
    policy: PolicyEngine,
    eks: Eks,
    ledger: Ledger,
    metrics: Metrics,
    clock: Clock,
) -> Gateway:
    """Wire the parts together; nothing is opened, bound or started."""
    home = settings.eks.home
    decisions = Decisions(policy, ledger.record_denial)
    budget = Budget(settings.eks.calls_per_s, clock, settings.eks.threads)
    reads = SharedReads(eks, budget, clock)
    watches = Watches(reads, ledger.record_observation, clock, settings.watch, random.Random())  # noqa: S311

    def follow(cancellation: Cancellation, answered: float | None) -> None:
        reads.forget(cancellation.ref)
        watches.follow(cancellation, answered)

    cancellations = Cancellations(
        decisions=decisions,
        eks=BudgetedEks(eks, budget, Lane.CANCEL),
        ledger=ledger,
        follow=follow,
        metrics=metrics,
        clock=clock,
        new_id=lambda: str(uuid.uuid4()),
        decision_max_age=settings.eks.decision_max_age_s,
    )
    cancels = IdempotentCancels(cancellations, clock, settings.limits.call_timeout_s)
    limits = Limits(settings.limits)
    health = HealthService()
    reauthorization = Reauthorization(
        decisions=decisions,
        policy=policy,
        reads=reads,
        facts_max_age=settings.watch.facts_max_age_s,
        clock=clock,
        random=random.Random(),  # noqa: S311
    )
    cancellable_updates = CancellableUpdates(
        decisions=decisions,
        reads=reads,
        targets=[each.target for each in settings.eks.targets],
        clock=clock,
        max_age=settings.watch.facts_max_age_s,
        call_timeout=settings.limits.call_timeout_s,
    )
    updates = UpdateService(
        decisions=decisions,
        cancels=cancels,
        eks=BudgetedEks(eks, budget, Lane.READ),
        reads=reads,
        cancellable_updates=cancellable_updates,
        watches=watches,
        reauthorization=reauthorization,
        home=home,
        clock=clock,
        settings=settings.watch,
    )
    history = CancellationService(decisions=decisions, ledger=ledger, home=home, clock=clock)
    tokens = None
    checks: dict[str, ReadinessCheck] = {"policy": decisions.check, "ledger": ledger.check}
    if settings.identity.jwt is not None:
        tokens = JwtIdentity(settings.identity.jwt, clock, count_groups=metrics.count_dropped_groups)
        checks["identity"] = tokens.check
    caller_limits = CallerLimits(settings.limits)

    refusals = RefusalLog(metrics)
    admission = Admission(settings.limits.calls + settings.limits.watches, CpuLoad().is_low, refusals.add)
    connections = file_descriptors.max_connections(settings)
    idle_connections = IdleConnections(clock)

    def listen(listener: ListenerSettings) -> Listener:
        identity, certificates = choose_identity(listener, tokens, clock), listener.requires_certificate
        chain = Chain(
            before=(
                idle_connections,
                TakeSeat(admission, identity, certificates=certificates, settings=settings.limits),
                AccessLog(clock, metrics),
                limits,
                Authenticate(
                    identity,
                    certificates=certificates,
                    reflection=settings.reflection,
                ),
                MoveSeat(admission),
                caller_limits,
            ),
            after=(Authorize(decisions, home, clock),),
            limits=settings.limits,
            write_timeout=settings.watch.write_timeout_s,
        )
        opened = Listener(listener, settings.limits, chain, clock, connections=connections)
        # The servicers get a Call where the generated bases say context: hence the casts.
        update_service_pb2_grpc.add_UpdateServiceServicer_to_server(cast(Any, updates), opened.server)
        cancellation_service_pb2_grpc.add_CancellationServiceServicer_to_server(
            cast(Any, history), opened.server
        )
        health_pb2_grpc.add_HealthServicer_to_server(cast(Any, health), opened.server)
        if settings.reflection != "off":
            add_reflection(opened.server)
        return opened

    listeners = [listen(listener) for listener in settings.listeners]
    metrics.add_policy(settings.policy.engine, policy)
    metrics.add_gauge("pollers", "Updates that are polled.", lambda: watches.pollers)
    metrics.add_gauge("waiting_calls", "Calls that wait for their turn.", lambda: admission.waiting)
    metrics.add_gauge(
        "served_calls", "Calls that are worked on, without open watches.", lambda: admission.serving
    )
    metrics.add_gauge("watchers", "Watches of updates.", lambda: watches.watchers)
    server = MetricsServer(metrics.registry, settings.metrics, health.unready_parts)
    closers = [server.close, reauthorization.close, watches.close]
    closers += [ledger.close, policy.close, budget.close, eks.close]
    if tokens is not None:
        closers.append(tokens.close)
    return Gateway(
        listeners=listeners,
        settings=settings,
        limits=limits,
        health=health,
        watches=watches,
        cancellations=cancellations,
        cancels=cancels,
        checks=checks,
        policy=policy,
        ledger=ledger,
        metrics=server,
        clock=clock,
        idle_connections=idle_connections,
        connections=connections,
        closers=closers,
        tokens=tokens,
    )
