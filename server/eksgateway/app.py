"""The only place that constructs things: the parts, the interceptor list, and a server's life."""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
import uuid
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, cast

import grpc
import structlog
from grpc_health.v1 import health_pb2_grpc

from eksgateway.cancellation import Cancellations
from eksgateway.clock import Clock, SystemClock
from eksgateway.decisions import Decisions
from eksgateway.eks.adapter import BotoEks
from eksgateway.eks.protocol import Eks
from eksgateway.eks.shared import SharedReads
from eksgateway.identity.protocol import Identity
from eksgateway.identity.tokens import JwtIdentity
from eksgateway.ledger.protocol import Ledger
from eksgateway.ledger.sql import open_ledger
from eksgateway.model import Cancellation
from eksgateway.policy.engine import PolicyEngine
from eksgateway.policy.load import open_engine
from eksgateway.rpc.cancellations import CancellationService
from eksgateway.rpc.health import Health, probe
from eksgateway.rpc.interceptors.access_log import AccessLog
from eksgateway.rpc.interceptors.authorize import Authorize
from eksgateway.rpc.interceptors.chain import Chain
from eksgateway.rpc.interceptors.errors import Errors
from eksgateway.rpc.interceptors.identity import ProveIdentity
from eksgateway.rpc.interceptors.limits import CallerLimits, Limits
from eksgateway.rpc.reflection import add_reflection
from eksgateway.rpc.updates import UpdateService
from eksgateway.settings import Settings, SettingsError, TlsSettings
from eksgateway.v1 import cancellation_service_pb2_grpc, update_service_pb2_grpc
from eksgateway.watch.watches import Watches

log = structlog.get_logger("eksgateway.app")

# Core's own size limits are four times ours, so that our answer carries its ErrorInfo. Above
# 1,000 pending calls core would drop some at random.
OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.so_reuseport", 0),
    ("grpc.max_concurrent_streams", 10_000),
    ("grpc.server.max_pending_requests", 100_000),
    ("grpc.server.max_pending_requests_hard_limit", 100_000),
    ("grpc.server_handshake_timeout_ms", 5_000),
    ("grpc.max_connection_age_ms", 4 * 3_600_000),
    ("grpc.max_connection_age_grace_ms", 300_000),
)


_LAST_WORDS_S = 1.0  # for what was answered and is not sent yet


@dataclass(slots=True)
class Gateway:
    """A built gateway: ``start`` binds and takes up what is pending, ``stop`` drains."""

    server: grpc.aio.Server
    settings: Settings
    limits: Limits
    health: Health
    watches: Watches
    cancellations: Cancellations
    decisions: Decisions
    ledger: Ledger
    clock: Clock
    closers: list[Callable[[], Any]]
    port: int = 0
    _probe: asyncio.Task[None] | None = field(default=None)

    async def start(self) -> None:
        """Bind and serve; raises SettingsError when the address cannot be bound."""
        self.port = _bind(self.server, self.settings)
        await self.cancellations.take_up()
        await self.server.start()
        self._probe = asyncio.create_task(probe(self.health, self.decisions, self.ledger, self.clock))
        log.info("gateway.started", listen=self.settings.listen, port=self.port)

    async def stop(self) -> None:
        """Health first, then turn calls away, let those in flight finish, then close the parts.

        Core's own stop comes last: it refuses connections, and cannot say DRAINING.
        """
        log.info("gateway.draining")
        self.health.drain()
        self.limits.drain()
        self.watches.drain()
        ends = self.clock.monotonic() + self.settings.limits.drain_s
        await self.limits.idle(self.settings.limits.drain_s)
        await self.cancellations.finish(ends - self.clock.monotonic())
        await self.server.stop(_LAST_WORDS_S)
        if self._probe is not None:
            self._probe.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._probe
        for close in self.closers:
            await close()
        log.info("gateway.stopped")


def build_server(  # noqa: PLR0913  the parts, each given by a test or by ``open_gateway``
    settings: Settings,
    *,
    identity: Identity,
    policy: PolicyEngine,
    eks: Eks,
    ledger: Ledger,
    clock: Clock,
) -> Gateway:
    """Wire the parts together; nothing is opened, bound or started."""
    home = settings.eks.home
    decisions = Decisions(policy, ledger.record_denial)
    reads = SharedReads(eks, clock)
    watches = Watches(reads, ledger.record_observation, clock, settings.watch, random.Random())  # noqa: S311

    def follow(cancellation: Cancellation) -> None:
        reads.forget(cancellation.ref)
        watches.follow(cancellation)

    cancellations = Cancellations(
        decisions=decisions,
        eks=eks,
        ledger=ledger,
        follow=follow,
        clock=clock,
        new_id=lambda: str(uuid.uuid4()),
        decision_max_age=settings.eks.decision_max_age_s,
        call_timeout=settings.limits.call_timeout_s,
    )
    limits = Limits(settings.limits)
    health = Health()
    chain = Chain(
        before=(
            AccessLog(clock),
            Errors(write_timeout=settings.watch.write_timeout_s),
            limits,
            ProveIdentity(identity, reflection=settings.reflection),
            CallerLimits(settings.limits),
        ),
        after=(Authorize(decisions, home, clock),),
        write_timeout=settings.watch.write_timeout_s,
    )
    server = grpc.aio.server(interceptors=(chain,), options=_options(settings))
    updates = UpdateService(
        decisions=decisions,
        cancellations=cancellations,
        eks=eks,
        reads=reads,
        watches=watches,
        home=home,
        clock=clock,
        settings=settings.watch,
    )
    history = CancellationService(decisions=decisions, ledger=ledger, home=home, clock=clock)
    # The servicers get a Call where the generated bases say context: hence the casts.
    update_service_pb2_grpc.add_UpdateServiceServicer_to_server(cast(Any, updates), server)
    cancellation_service_pb2_grpc.add_CancellationServiceServicer_to_server(cast(Any, history), server)
    health_pb2_grpc.add_HealthServicer_to_server(cast(Any, health), server)
    if settings.reflection != "off":
        add_reflection(server)
    closers = [watches.close, identity.close, policy.close, eks.close, ledger.close]
    return Gateway(
        server, settings, limits, health, watches, cancellations, decisions, ledger, clock, closers
    )


async def open_gateway(settings: Settings, clock: Clock | None = None) -> Gateway:
    """Open policy, ledger, EKS and identity from settings. Raises StartError, or UpstreamCredentials for
    AWS credentials that cannot be found.
    """
    clock = clock or SystemClock()
    async with AsyncExitStack() as opened:  # closed again if a later part does not open
        policy = await open_engine(settings.policy, clock)
        opened.push_async_callback(policy.close)
        ledger = await open_ledger(settings.ledger, clock)
        opened.push_async_callback(ledger.close)
        eks = BotoEks(settings.eks, clock)
        opened.push_async_callback(eks.close)
        await eks.warm()
        identity = JwtIdentity(settings.identity.jwt, clock)
        opened.pop_all()
    return build_server(settings, identity=identity, policy=policy, eks=eks, ledger=ledger, clock=clock)


def _options(settings: Settings) -> list[tuple[str, int]]:
    sizes = [
        ("grpc.max_receive_message_length", 4 * settings.limits.message_bytes),
        ("grpc.max_metadata_size", 4 * settings.limits.metadata_bytes),
        ("grpc.absolute_max_metadata_size", 8 * settings.limits.metadata_bytes),
    ]
    return [*OPTIONS, *sizes]


def _bind(server: grpc.aio.Server, settings: Settings) -> int:
    try:
        if settings.tls is None:
            return server.add_insecure_port(settings.listen)
        return server.add_secure_port(settings.listen, _credentials(settings.tls))
    except RuntimeError as exc:
        raise SettingsError(
            f"cannot listen on {settings.listen}: the address is in use or not this machine's;"
            " set `listen` to a free one, or stop what holds it"
        ) from exc


def _credentials(tls: TlsSettings) -> grpc.ServerCredentials:
    try:
        # grpc tells neither what is wrong nor whether key and certificate belong together.
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(tls.certificate, tls.key)
        pair = tls.key.read_bytes(), tls.certificate.read_bytes()
    except OSError as exc:  # ssl.SSLError too
        raise SettingsError(
            f"tls: {tls.certificate} and {tls.key} cannot be used: {exc.strerror or exc};"
            " both must be PEM files that belong together"
        ) from exc
    return grpc.ssl_server_credentials([pair])
