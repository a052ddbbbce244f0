"""What a monitoring system scrapes: counted where it happens, served over HTTP in Prometheus's format, beside
the answers to Kubernetes' probes.

No caller, cluster or update is in any label: the log and the ledger tell of single calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from eksgateway.addresses import join_address, split_address
from eksgateway.policy.engine import PolicyEngine
from eksgateway.settings import MetricsSettings, SettingsError

if TYPE_CHECKING:
    from aiohttp import web

_CONNECTIONS: Final = 100
_NOT_STORED: Final = {"Cache-Control": "no-store"}
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """One gateway's counters, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._calls = Counter(
            "eksgateway_calls",
            "RPCs that have ended, refused ones too; reason is that of ErrorInfo, empty for OK.",
            ("method", "status", "reason"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "eksgateway_call_duration_seconds",
            "How long RPCs took that are no watches.",
            ("method",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._forwards = Counter(
            "eksgateway_forwards",
            "Recorded intents by what became of forwarding them to EKS.",
            ("outcome",),
            registry=self.registry,
        )
        self._eks = Counter(
            "eksgateway_eks_calls",
            "Calls to EKS by result: ok, or the reason of the error.",
            ("operation", "result"),
            registry=self.registry,
        )
        self._refused = Counter(
            "eksgateway_calls_refused",
            "RPCs that got no turn, and count among no others; band is cancel, open, read or stranger.",
            ("band",),
            registry=self.registry,
        )
        self._groups = Counter(
            "eksgateway_identity_groups_dropped",
            "Groups in verified tokens that do not count: unusable ones, and tokens without any because the"
            " issuer left them out (overage).",
            ("issuer", "why"),
            registry=self.registry,
        )

    def count_refused_call(self, band: str) -> None:
        """An RPC was refused with OVERLOADED before anything was spent on it."""
        self._refused.labels(band).inc()

    def count_call(self, method: str, status: str, reason: str, seconds: float | None) -> None:
        """An RPC has ended; ``seconds`` is None for a watch."""
        self._calls.labels(method, status, reason).inc()
        if seconds is not None:
            self._seconds.labels(method).observe(seconds)

    def count_forward(self, outcome: str) -> None:
        """An intent was forwarded, or could not be."""
        self._forwards.labels(outcome).inc()

    def count_dropped_groups(self, issuer: str, why: str, groups: int) -> None:
        """Groups of a token do not count."""
        self._groups.labels(issuer, why).inc(groups)

    def count_eks_call(self, operation: str, result: str) -> None:
        """EKS was called."""
        self._eks.labels(operation, result).inc()

    def add_policy(self, engine: str, policy: PolicyEngine) -> None:
        """Tell at each scrape what is in force then."""
        self.registry.register(_PolicyCollector(engine, policy))

    def add_gauge(self, name: str, about: str, value: Callable[[], float]) -> None:
        """Tell at each scrape how many there are then."""
        Gauge(f"eksgateway_{name}", about, registry=self.registry).set_function(value)


class _PolicyCollector(Collector):
    def __init__(self, engine: str, policy: PolicyEngine) -> None:
        self._engine = engine
        self._policy = policy

    def collect(self) -> Iterator[Metric]:
        reloads = self._policy.reloads
        yield InfoMetricFamily(
            "eksgateway_policy",
            "The policy in force.",
            {"engine": self._engine, "revision": self._policy.revision},
        )
        counts = CounterMetricFamily(
            "eksgateway_policy_reloads",
            "Policies that were looked at, by what came of it.",
            labels=["result"],
        )
        counts.add_metric(["loaded"], reloads.loaded)
        counts.add_metric(["refused"], reloads.refused)
        yield counts
        yield GaugeMetricFamily(
            "eksgateway_policy_reload_failing",
            "1 while what lies there does not load, and an older policy is in force.",
            int(reloads.failing),
        )
        yield GaugeMetricFamily(
            "eksgateway_policy_loaded_timestamp_seconds",
            "When the policy in force was loaded; 0 before the first.",
            reloads.last.timestamp() if reloads.last else 0,
        )


class MetricsServer:
    """``GET /metrics``, and ``/healthz`` and ``/readyz`` for Kubernetes' probes, on the gateway's own event
    loop; nothing at all without ``listen``. ``unready`` says what is not ready, a line each.
    """

    def __init__(
        self, metrics: Metrics, settings: MetricsSettings, unready: Callable[[], Sequence[str]] = list
    ) -> None:
        self.registry = metrics.registry
        self._settings = settings
        self._unready = unready
        self._runner: web.AppRunner | None = None
        self._server: asyncio.Server | None = None

    @property
    def address(self) -> str:
        """host:port, as bound; empty when it is off."""
        if self._settings.listen is None or self._server is None:
            return ""
        host, _ = split_address(self._settings.listen)
        return join_address(host, self._server.sockets[0].getsockname()[1])

    async def start(self) -> None:
        """Raises SettingsError when the address cannot be bound."""
        if self._settings.listen is None:
            return
        from aiohttp import web  # noqa: PLC0415 - takes 150 ms, and most tests and sandboxes go without
        from prometheus_client.aiohttp import make_aiohttp_handler  # noqa: PLC0415 - likewise

        async def alive(_: web.Request) -> web.Response:
            return web.Response(text="ok\n", headers=_NOT_STORED)

        async def ready(_: web.Request) -> web.Response:
            lines = self._unready()
            text = "\n".join(["not ready", *lines, ""] if lines else ["ready", ""])
            return web.Response(text=text, status=503 if lines else 200, headers=_NOT_STORED)

        app = web.Application()
        app.router.add_get("/metrics", make_aiohttp_handler(self.registry))
        app.router.add_get("/healthz", alive)
        app.router.add_get("/readyz", ready)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        host, port = split_address(self._settings.listen)
        try:
            loop, server = asyncio.get_running_loop(), self._runner.server
            assert server is not None  # noqa: S101  it was set up
            self._server = await loop.create_server(partial(_Bounded, server), host, port)
        except OSError as exc:
            await self.close()
            raise SettingsError(
                f"cannot serve metrics on {self._settings.listen}: {exc.strerror}; set `metrics.listen`"
                " to a free address of this machine"
            ) from exc

    async def close(self) -> None:
        """Refuse connections, and end what is being answered."""
        if self._server is not None:
            self._server.close()
        if self._runner is not None:
            await self._runner.cleanup()


class _Bounded(asyncio.Protocol):
    """A connection that becomes one of the server's. When there are too many, which would take descriptors
    that calls need, the oldest ends: clients that send nothing would keep probes out for good.
    """

    def __init__(self, server: web.Server) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101
        others = [each.transport for each in self._server.connections]
        held = [each for each in others if each is not None and not each.is_closing()]
        if len(held) >= _CONNECTIONS:
            held[0].abort()
        handler = self._server()
        transport.set_protocol(handler)
        handler.connection_made(transport)
