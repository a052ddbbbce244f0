"""Wires the parts of a gateway together. Opens, binds and starts nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import grpc
from grpc_health.v1 import health_pb2_grpc

from eksgateway import file_descriptors
from eksgateway.cancellable_updates import CancellableUpdates
from eksgateway.clock import Clock
from eksgateway.core import Core, build_cancels, build_core, build_reauthorization
from eksgateway.eks.budgeted import BudgetedEks
from eksgateway.eks.protocol import Eks
from eksgateway.eks.target_budget import Lane
from eksgateway.gateway import Gateway
from eksgateway.idempotency import IdempotentCancels
from eksgateway.identity.listener_identity import choose_identity
from eksgateway.identity.tokens import JwtIdentity
from eksgateway.ledger.protocol import Ledger
from eksgateway.metrics import Metrics
from eksgateway.metrics_server import MetricsServer
from eksgateway.policy.engine import PolicyEngine
from eksgateway.rights.reauthorization import Reauthorization
from eksgateway.rpc.admission import Admission
from eksgateway.rpc.cancellation_service import CancellationService
from eksgateway.rpc.cpu_load import CpuLoad
from eksgateway.rpc.health import HealthService, ReadinessCheck
from eksgateway.rpc.idle_connections import IdleConnections
from eksgateway.rpc.interceptors.access_log import AccessLog
from eksgateway.rpc.interceptors.authenticate import Authenticate
from eksgateway.rpc.interceptors.authorize import Authorize
from eksgateway.rpc.interceptors.chain import Chain
from eksgateway.rpc.interceptors.limits import CallerLimits, Limits
from eksgateway.rpc.interceptors.seats import MoveSeat, RefusalLog, TakeSeat
from eksgateway.rpc.listener import Listener
from eksgateway.rpc.peers import EdgePeers, read_connection
from eksgateway.rpc.read_scopes import ReadScopes
from eksgateway.rpc.reflection import add_reflection
from eksgateway.rpc.update_service import UpdateService
from eksgateway.settings import ListenerSettings, Settings
from eksgateway.v1 import (
    cancellation_service_pb2,
    cancellation_service_pb2_grpc,
    update_service_pb2,
    update_service_pb2_grpc,
)

if TYPE_CHECKING:
    from eksgateway.edge.server import HttpEdge
    from eksgateway.fleet.fleet import Fleet


@dataclass(frozen=True, slots=True)
class _Shared:
    """The parts of ``rpc`` that all listeners share."""

    limits: Limits
    caller_limits: CallerLimits
    admission: Admission
    idle_connections: IdleConnections
    tokens: JwtIdentity | None
    updates: UpdateService
    cancellations: CancellationService
    health: HealthService


def build_gateway(  # noqa: PLR0913  the parts that are opened elsewhere
    settings: Settings,
    *,
    policy: PolicyEngine,
    ledger: Ledger,
    eks: Eks,
    metrics: Metrics,
    clock: Clock,
    fleet: Fleet | None = None,
    warm: Callable[[], Awaitable[None]] | None = None,
    checks: Mapping[str, ReadinessCheck] | None = None,
) -> Gateway:
    """``fleet`` is None for a gateway on SQLite, which is alone.

    ``warm`` is awaited before the gateway becomes ready. ``checks`` are added to those of readiness.
    """
    core = build_core(
        settings, policy=policy, ledger=ledger, eks=eks, metrics=metrics, clock=clock, fleet=fleet
    )
    cancels = build_cancels(core)
    reauthorization = build_reauthorization(core)
    shared = _build_shared(core, cancels, reauthorization)
    _add_gauges(core, shared.admission)
    metrics_server = MetricsServer(metrics.registry, settings.metrics, shared.health.unready_parts)
    closers = [metrics_server.close, reauthorization.close, core.following.close, core.watches.close]
    closers += [ledger.close, policy.close, core.budget.close, eks.close]
    own_checks: dict[str, ReadinessCheck] = {"policy": core.decisions.check, "ledger": ledger.check}
    if shared.tokens is not None:
        closers.append(shared.tokens.close)
        own_checks["identity"] = shared.tokens.check
    if fleet is not None:
        closers.append(fleet.close)
        own_checks["replica"] = fleet.replicas.check
        metrics.add_fleet(fleet)
    return Gateway(
        settings=settings,
        clock=clock,
        policy=policy,
        ledger=ledger,
        listeners=[_build_listener(core, shared, each) for each in settings.listeners],
        limits=shared.limits,
        idle_connections=shared.idle_connections,
        health=shared.health,
        watches=core.watches,
        following=core.following,
        cancels=cancels,
        metrics=metrics_server,
        edge=_build_edge(core, shared),
        tokens=shared.tokens,
        fleet=fleet,
        warm=warm,
        checks=own_checks | dict(checks or {}),
        closers=closers,
    )


def _build_shared(core: Core, cancels: IdempotentCancels, reauthorization: Reauthorization) -> _Shared:
    settings, clock = core.settings, core.clock
    refusals = RefusalLog(core.metrics)
    return _Shared(
        limits=Limits(settings.limits),
        caller_limits=CallerLimits(settings.limits),
        admission=Admission(settings.limits.calls + settings.limits.watches, CpuLoad().is_low, refusals.add),
        idle_connections=IdleConnections(clock),
        tokens=_build_tokens(core),
        updates=_build_update_service(core, cancels, reauthorization),
        cancellations=CancellationService(
            decisions=core.decisions,
            ledger=core.ledger,
            home=settings.eks.home,
            clock=clock,
            scopes=ReadScopes(core.decisions, core.ledger),
        ),
        health=HealthService(),
    )


def _build_tokens(core: Core) -> JwtIdentity | None:
    jwt = core.settings.identity.jwt
    if jwt is None:
        return None
    return JwtIdentity(
        jwt,
        core.clock,
        count_groups=core.metrics.count_dropped_groups,
        count_claims=core.metrics.count_dropped_claims,
    )


def _build_update_service(
    core: Core, cancels: IdempotentCancels, reauthorization: Reauthorization
) -> UpdateService:
    settings = core.settings
    cancellable_updates = CancellableUpdates(
        decisions=core.decisions,
        reads=core.reads,
        targets=[each.target for each in settings.eks.targets],
        clock=core.clock,
        max_age=settings.watch.facts_max_age_s,
        call_timeout=settings.limits.call_timeout_s,
    )
    return UpdateService(
        decisions=core.decisions,
        cancels=cancels,
        eks=BudgetedEks(core.eks, core.budget, Lane.READ),
        reads=core.reads,
        cancellable_updates=cancellable_updates,
        watches=core.watches,
        reauthorization=reauthorization,
        home=settings.eks.home,
        clock=core.clock,
        settings=settings.watch,
    )


def _build_listener(core: Core, shared: _Shared, listener: ListenerSettings) -> Listener:
    settings = core.settings
    connections = file_descriptors.max_connections(settings)
    built = Listener(
        listener, settings.limits, _build_chain(core, shared, listener), core.clock, connections=connections
    )
    _add_services(built.server, shared)
    if settings.reflection != "off":
        add_reflection(built.server)
    return built


def _add_services(server: grpc.aio.Server, shared: _Shared) -> None:
    # The servicers get a Call where the generated bases have grpc's context: hence the casts.
    update_service_pb2_grpc.add_UpdateServiceServicer_to_server(cast(Any, shared.updates), server)
    cancellation_service_pb2_grpc.add_CancellationServiceServicer_to_server(
        cast(Any, shared.cancellations), server
    )
    health_pb2_grpc.add_HealthServicer_to_server(cast(Any, shared.health), server)


def _build_edge(core: Core, shared: _Shared) -> HttpEdge | None:
    settings = core.settings
    if settings.http.listen is None:
        return None
    from eksgateway.edge.methods import find_methods  # noqa: PLC0415  aiohttp takes 150 ms
    from eksgateway.edge.server import HttpEdge  # noqa: PLC0415  likewise
    from eksgateway.edge.upstream import InternalListener  # noqa: PLC0415  likewise

    peers = EdgePeers()
    chain = _build_chain(core, shared, ListenerSettings(), peers)
    upstream = InternalListener(chain, settings.http.calls + settings.http.streams)
    _add_services(upstream.server, shared)
    return HttpEdge(
        settings=settings.http,
        limits=settings.limits,
        upstream=upstream,
        peers=peers,
        methods=find_methods(
            [
                update_service_pb2.DESCRIPTOR.services_by_name["UpdateService"],
                cancellation_service_pb2.DESCRIPTOR.services_by_name["CancellationService"],
            ]
        ),
        metrics=core.metrics,
        connections=file_descriptors.max_connections(settings),
        write_timeout=settings.watch.write_timeout_s,
    )


def _build_chain(
    core: Core, shared: _Shared, listener: ListenerSettings, edge: EdgePeers | None = None
) -> Chain:
    """The interceptors of one listener, outermost first. ``edge`` is for the listener of the HTTP edge, whose
    connections are not core's.
    """
    settings, clock = core.settings, core.clock
    identity, certificates = choose_identity(listener, shared.tokens, clock), listener.requires_certificate
    return Chain(
        before=(
            *((shared.idle_connections,) if edge is None else ()),
            TakeSeat(shared.admission, identity, certificates=certificates, settings=settings.limits),
            AccessLog(clock, core.metrics),
            shared.limits,
            Authenticate(identity, certificates=certificates, reflection=settings.reflection),
            MoveSeat(shared.admission),
            shared.caller_limits,
        ),
        after=(Authorize(core.decisions, settings.eks.home, clock),),
        limits=settings.limits,
        write_timeout=settings.watch.write_timeout_s,
        read_peer=read_connection if edge is None else edge.read,
    )


def _add_gauges(core: Core, admission: Admission) -> None:
    metrics, watches = core.metrics, core.watches
    metrics.add_policy(core.settings.policy.engine, core.policy)
    metrics.add_gauge("pollers", "Updates that are polled.", lambda: watches.pollers)
    metrics.add_gauge("watchers", "Watches of updates.", lambda: watches.watchers)
    metrics.add_gauge("waiting_calls", "Calls that wait for their turn.", lambda: admission.waiting)
    metrics.add_gauge(
        "served_calls", "Calls that are worked on, without open watches.", lambda: admission.serving
    )
