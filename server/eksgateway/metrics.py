"""Every metric of one gateway, counted where it happens.

No caller, cluster or update is a label: the log and the ledger hold single calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from eksgateway.policy.engine import PolicyEngine

if TYPE_CHECKING:
    from eksgateway.fleet.fleet import Fleet

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._calls = self._counter(
            "eksgateway_calls",
            "RPCs that have ended, refused ones too; reason is that of ErrorInfo, empty for OK.",
            *("method", "status", "reason"),
        )
        self._seconds = Histogram(
            "eksgateway_call_duration_seconds",
            "Duration of RPCs, without watches.",
            ("method",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        # Prometheus' own look-up takes 1.5 µs for each. The number of labels is bounded.
        self._count_of, self._seconds_of = cache(self._calls.labels), cache(self._seconds.labels)
        self._forwards = self._counter(
            "eksgateway_forwards", "Recorded intents by the outcome of forwarding them to EKS.", "outcome"
        )
        self._eks_calls = self._counter(
            "eksgateway_eks_calls",
            "Calls to EKS by result: ok, or the reason of the error.",
            *("operation", "result"),
        )
        self._refused_calls = self._counter(
            "eksgateway_calls_refused",
            "RPCs refused by admission, counted only here; band is cancel, open, read or stranger.",
            "band",
        )
        self._dropped_groups = self._counter(
            "eksgateway_identity_groups_dropped",
            "Groups in verified tokens that do not count: unusable ones, and tokens without any because the"
            " issuer left them out (overage).",
            *("issuer", "why"),
        )
        self._dropped_claims = self._counter(
            "eksgateway_identity_claims_dropped",
            "Unusable values in verified tokens of the claims that the issuer's settings give to the policy.",
            *("issuer", "claim"),
        )
        self._http_requests = self._counter(
            "eksgateway_http_requests",
            "HTTP requests to the edge; code is that of Connect, or ok. Calls that it passes on count as RPCs"
            " too. method is page for the page's files, and unknown for other paths.",
            *("method", "code"),
        )

    def count_http_request(self, method: str, code: str) -> None:
        self._http_requests.labels(method, code).inc()

    def count_refused_call(self, band: str) -> None:
        self._refused_calls.labels(band).inc()

    def count_call(self, method: str, status: str, reason: str, seconds: float | None) -> None:
        """``seconds`` is None for a watch."""
        self._count_of(method, status, reason).inc()
        if seconds is not None:
            self._seconds_of(method).observe(seconds)

    def count_forward(self, outcome: str) -> None:
        self._forwards.labels(outcome).inc()

    def count_dropped_groups(self, issuer: str, why: str, groups: int) -> None:
        self._dropped_groups.labels(issuer, why).inc(groups)

    def count_dropped_claims(self, issuer: str, claim: str, values: int) -> None:
        self._dropped_claims.labels(issuer, claim).inc(values)

    def count_eks_call(self, operation: str, result: str) -> None:
        self._eks_calls.labels(operation, result).inc()

    def add_policy(self, engine: str, policy: PolicyEngine) -> None:
        self.registry.register(_PolicyCollector(engine, policy))

    def add_fleet(self, fleet: Fleet) -> None:
        self.registry.register(_FleetCollector(fleet))

    def add_gauge(self, name: str, documentation: str, value: Callable[[], float]) -> None:
        """Report a value at each scrape, as ``eksgateway_<name>``."""
        Gauge(f"eksgateway_{name}", documentation, registry=self.registry).set_function(value)

    def _counter(self, name: str, documentation: str, *labels: str) -> Counter:
        return Counter(name, documentation, labels, registry=self.registry)


class _PolicyCollector(Collector):
    def __init__(self, engine: str, policy: PolicyEngine) -> None:
        self._engine = engine
        self._policy = policy

    def collect(self) -> Iterator[Metric]:
        reloads, running = self._policy.reloads, {"engine": self._engine, "revision": self._policy.revision}
        yield InfoMetricFamily("eksgateway_policy", "The policy in force.", running)
        counts = CounterMetricFamily(
            "eksgateway_policy_reloads", "New policies found, by result.", labels=["result"]
        )
        counts.add_metric(["loaded"], reloads.loaded)
        counts.add_metric(["refused"], reloads.refused)
        yield counts
        yield GaugeMetricFamily(
            "eksgateway_policy_reload_failing",
            "1 while a newer policy does not load and an older one is in force.",
            int(reloads.failing),
        )
        yield GaugeMetricFamily(
            "eksgateway_policy_loaded_timestamp_seconds",
            "When the policy in force was loaded; 0 before the first.",
            reloads.last.timestamp() if reloads.last else 0,
        )


class _FleetCollector(Collector):
    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def collect(self) -> Iterator[Metric]:
        fleet = self._fleet
        yield GaugeMetricFamily(
            "eksgateway_fleet_replicas",
            "Replicas that were alive at PostgreSQL's last answer.",
            fleet.replicas.alive,
        )
        yield GaugeMetricFamily(
            "eksgateway_fleet_listening", "1 while this replica hears notices.", int(fleet.notices.listening)
        )
        yield GaugeMetricFamily(
            "eksgateway_fleet_last_notice_age_seconds",
            "Seconds since the last notice of a change; since the start before the first.",
            fleet.notices.age_s,
        )
        looks = CounterMetricFamily(
            "eksgateway_fleet_looks",
            "Reads of EKS by result: taken (by this replica), shared (another replica's was used), void.",
            labels=["result"],
        )
        for result, number in fleet.counts.looks.items():
            looks.add_metric([result], number)
        yield looks
        draws = CounterMetricFamily(
            "eksgateway_fleet_draws",
            "Draws of tokens from the shared budget by result: granted, refused, or unavailable.",
            labels=["result"],
        )
        for result, number in fleet.counts.draws.items():
            draws.add_metric([result], number)
        yield draws
