"""A gateway for tests with a real socket, policy, SQLite and boto3, and a simulated EKS over HTTP."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import grpc
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc

from eksgateway.app import build_gateway
from eksgateway.clock import Clock, SystemClock
from eksgateway.eks.adapter import BotoEks
from eksgateway.fleet.fleet import open_fleet
from eksgateway.gateway import Gateway
from eksgateway.ledger.protocol import Ledger
from eksgateway.ledger.sql_ledger import open_ledger
from eksgateway.metrics import Metrics
from eksgateway.policy.engine import PolicyEngine
from eksgateway.policy.factory import open_policy_engine
from eksgateway.sandbox.issuer import ThrowawayIssuer
from eksgateway.settings import Settings
from eksgateway.v1 import cancellation_pb2 as cpb
from eksgateway.v1 import cancellation_service_pb2_grpc, update_pb2, update_service_pb2_grpc
from eksgateway.v1 import update_service_pb2 as pb
from support.simulator import SimulatedEks

ACCOUNT, REGION = "111122223333", "us-east-1"
WHERE = {"accounts": [ACCOUNT], "regions": [REGION]}
EVERY_ACTION = ["cancel", "check", "get", "list", "watch", "history"]

# Timeouts that no part reaches on a loaded machine. A test of a timeout sets it.
PATIENT: dict[str, dict[str, float]] = {
    "policy": {"timeout_s": 30},
    "ledger": {"commit_timeout_s": 30},
    "eks": {
        "connect_timeout_s": 30,
        "read_timeout_s": 30,
        "cancel_read_timeout_s": 30,
        "decision_max_age_s": 60,
    },
    "limits": {"call_timeout_s": 60, "message_timeout_s": 30},
}

# The grants of the wire tests. A test that needs other grants changes a copy.
POLICY_DATA: dict[str, Any] = {
    "eksgateway": {
        "grants": [
            {
                "id": "oncall",
                "groups": ["test:oncall"],
                "actions": EVERY_ACTION,
                **WHERE,
                "clusters": ["prod-*"],
                "tags": {"environment": ["production"]},
                "update_types": ["VersionRollback"],
                "require": ["reason", "ticket"],
            },
            {
                "id": "staging",
                "groups": ["test:oncall"],
                "actions": EVERY_ACTION,
                **WHERE,
                "clusters": ["staging-*"],
                "update_types": ["VersionRollback", "VersionUpdate"],
            },
            {
                "id": "viewers",
                "groups": ["test:viewers"],
                "actions": ["get", "list", "watch", "check"],
                **WHERE,
                "clusters": ["*"],
            },
        ],
        "freezes": [],
    }
}


class Client:
    """Calls a gateway at an address. ``oncall``, ``viewer`` and ``outsider`` are call metadata."""

    def __init__(self, address: str, issuer: ThrowawayIssuer) -> None:
        self.address = address
        self.issuer = issuer
        self.oncall = self.credentials("oncall", "oncall")
        self.viewer = self.credentials("viewer", "viewers")
        self.outsider = self.credentials("outsider")
        self.channel = grpc.aio.insecure_channel(address)
        self.updates = update_service_pb2_grpc.UpdateServiceStub(self.channel)
        self.history = cancellation_service_pb2_grpc.CancellationServiceStub(self.channel)

    def credentials(self, subject: str, *groups: str, **claims: Any) -> tuple[tuple[str, str], ...]:
        """Call metadata with a token of this caller."""
        return (("authorization", f"Bearer {self.issuer.token(subject, groups, **claims)}"),)

    async def cancel(self, cluster: str, update_id: str, who: Any = None, **fields: Any) -> cpb.Cancellation:
        """CancelUpdate by the on-call engineer with a reason and a ticket by default."""
        fields = {"reason": "bad AMI", "ticket": "OPS-1"} | fields
        request = pb.CancelUpdateRequest(
            cluster=update_pb2.ClusterRef(name=cluster), update_id=update_id, **fields
        )
        metadata = self.oncall if who is None else who
        return (await self.updates.CancelUpdate(request, metadata=metadata, timeout=80)).cancellation

    def watch(self, cluster: str, update_id: str, who: Any = None, **fields: Any) -> Any:
        """WatchUpdate's stream."""
        request = pb.WatchUpdateRequest(
            cluster=update_pb2.ClusterRef(name=cluster), update_id=update_id, **fields
        )
        return self.updates.WatchUpdate(request, metadata=self.oncall if who is None else who, timeout=110)

    async def is_ready(self) -> bool:
        """Whether the health service reports SERVING."""
        health: Any = health_pb2_grpc.HealthStub(self.channel)  # its type does not know Check
        answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=20)
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    async def wait_for_readiness(self, *, ready: bool = True) -> None:
        """Poll until the gateway is ready, or is not."""
        async with asyncio.timeout(30):
            while await self.is_ready() != ready:  # noqa: ASYNC110  polled, as by a probe
                await asyncio.sleep(0.05)


class RunningGateway(Client):
    """A running gateway, its simulated EKS and its folder."""

    def __init__(self, gateway: Gateway, eks: SimulatedEks, issuer: ThrowawayIssuer, path: Path) -> None:
        super().__init__(gateway.listeners[0].address, issuer)
        self.gateway = gateway
        self.eks = eks
        self.path = path


def settings_for(path: Path, eks_url: str, issuer: ThrowawayIssuer, **sections: Any) -> Settings:
    """Settings of a gateway. ``sections`` override single settings, e.g. ``watch={"poll_s": 1}``."""
    jwks = path / "jwks.json"
    issuer.write_jwks(jwks)
    raw: dict[str, Any] = {
        "listeners": [{"address": "127.0.0.1:0"}],
        "reflection": "open",
        "identity": {"jwt": {"issuers": [issuer.settings(jwks).model_dump()]}},
        "policy": PATIENT["policy"] | {"data": path / "data.yaml"},
        "ledger": PATIENT["ledger"] | {"path": path / "ledger.db"},
        "limits": PATIENT["limits"],
        "eks": PATIENT["eks"]
        | {
            "targets": [{"account_id": ACCOUNT, "region": REGION, "endpoint_url": eks_url}],
            "calls_per_s": 10_000,
        },
        "watch": {"poll_s": 0.1, "follow_s": 0.1},
    }
    for section, values in sections.items():
        raw[section] = raw.get(section, {}) | values if isinstance(values, dict) else values
    if "url" in raw["ledger"]:
        del raw["ledger"]["path"]
    return Settings.model_validate(raw)


@cache  # loading EKS's service model takes longer than most tests
def aws_session() -> boto3.Session:
    """A session with credentials of the home account, independent of the machine's."""
    return boto3.Session(
        aws_access_key_id=f"AKIA{ACCOUNT}", aws_secret_access_key="simulated", region_name=REGION
    )


Wrap = Callable[[Any], Any]


@asynccontextmanager
async def run_gateway(
    path: Path,
    eks: SimulatedEks,
    /,  # `eks` may also be a section of settings
    *,
    data: dict[str, Any] | None = None,
    issuer: ThrowawayIssuer | None = None,
    clock: Clock | None = None,
    policy: PolicyEngine | None = None,
    wrap_policy: Wrap = lambda engine: engine,
    wrap_ledger: Wrap = lambda ledger: ledger,
    wrap_eks: Wrap = lambda adapter: adapter,
    ready: bool = True,
    **sections: Any,
) -> AsyncIterator[RunningGateway]:
    """Run a gateway on port 0 with the simulated EKS. Its state is in ``path``, or in ``ledger["url"]``."""
    clock = clock or SystemClock()
    issuer = issuer or ThrowawayIssuer("test")
    (path / "data.yaml").write_text(yaml.safe_dump(copy.deepcopy(data or POLICY_DATA)))
    settings = settings_for(path, eks.url, issuer, **sections)
    opened = await open_ledger(settings.ledger, clock)
    fleet = await open_fleet(settings, opened.replica, clock) if settings.ledger.url else None
    ledger: Ledger = wrap_ledger(opened)
    metrics = Metrics()
    gateway = build_gateway(
        settings,
        policy=wrap_policy(policy or await open_policy_engine(settings.policy, clock)),
        eks=wrap_eks(BotoEks(settings.eks, clock, aws_session(), metrics.count_eks_call)),
        ledger=ledger,
        metrics=metrics,
        clock=clock,
        fleet=fleet,
    )
    try:
        await gateway.start()
        if ready:
            await gateway.become_ready()
        here = RunningGateway(gateway, eks, issuer, path)
        try:
            yield here
        finally:
            await here.channel.close()
    finally:
        await gateway.stop()
