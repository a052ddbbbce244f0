"""Each `demand` of a listener on the wire."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509

from eksgateway.client import ErrorDetails
from eksgateway.clock import SystemClock
from eksgateway.settings import SettingsError
from eksgateway.v1 import cancellation_service_pb2 as history_pb
from eksgateway.v1 import cancellation_service_pb2_grpc
from eksgateway.v1 import update_service_pb2 as pb
from eksgateway.v1.update_pb2 import ClusterRef
from support.authority import SERVER, WORKLOAD, Authority, Issued, Shape, uri
from support.gateway import RunningGateway, run_gateway
from support.mtls import DATA, DEMANDS, MESH, TlsClient, build_listeners, connect
from support.processes import eksgateway_command, run_program
from support.simulator import SimulatedEks
from support.wire import expect_refusal


class MtlsGateway:
    """A gateway with a listener per demand, and the authority of its clients."""

    def __init__(self, gateway: RunningGateway, authority: Authority) -> None:
        self.gateway = gateway
        self.authority = authority
        self.addresses: dict[str, str] = {
            each.settings.demand: each.address for each in gateway.gateway.listeners
        }

    def svid(self, spiffe_id: str = WORKLOAD, **shape: Any) -> Issued:
        return self.authority.issue(replace(Shape(names=[uri(spiffe_id)]), **shape))

    @asynccontextmanager
    async def connect(self, demand: str, own: Issued | None) -> AsyncIterator[TlsClient]:
        async with connect(self.addresses[demand], self.authority.certificate, own) as connection:
            yield connection

    async def try_call(self, demand: str, own: Issued | None, metadata: Any = ()) -> str:
        """Call this listener; returns the reason of the error, or OK."""
        async with self.connect(demand, own) as connection:
            try:
                await connection.get("u", metadata)
            except grpc.aio.AioRpcError as error:
                return ErrorDetails.of(error).reason or f"handshake: {error.code().name}"
        return "OK"


@pytest.fixture
async def mtls(tmp_path: Path, eks: SimulatedEks) -> AsyncIterator[MtlsGateway]:
    authority = Authority()
    serving = build_listeners(tmp_path, authority, *DEMANDS)
    async with run_gateway(tmp_path, eks, data=DATA, listeners=serving) as gateway:
        yield MtlsGateway(gateway, authority)


PASSED = "EKS_NOT_FOUND"  # the call reached EKS, where the update does not exist
REFUSED_BY_HANDSHAKE = "handshake: UNAVAILABLE"

# The result of each listener, by token and certificate.
MATRIX: dict[tuple[str, str], dict[str, str]] = {
    ("good", "good"): {"jwt": PASSED, "mtls": PASSED, "both": PASSED},
    ("good", "foreign"): {"jwt": PASSED, "mtls": "CREDENTIALS_INVALID", "both": "CREDENTIALS_INVALID"},
    ("good", "none"): {"jwt": PASSED, "mtls": REFUSED_BY_HANDSHAKE, "both": REFUSED_BY_HANDSHAKE},
    ("bad", "good"): {"jwt": "CREDENTIALS_INVALID", "mtls": PASSED, "both": "CREDENTIALS_INVALID"},
    ("expired", "good"): {"jwt": "CREDENTIALS_EXPIRED", "mtls": PASSED, "both": "CREDENTIALS_EXPIRED"},
    ("none", "good"): {"jwt": "CREDENTIALS_MISSING", "mtls": PASSED, "both": "CREDENTIALS_MISSING"},
    ("none", "none"): {
        "jwt": "CREDENTIALS_MISSING",
        "mtls": REFUSED_BY_HANDSHAKE,
        "both": REFUSED_BY_HANDSHAKE,
    },
}


async def test_listener_accepts_only_what_it_demands(mtls: MtlsGateway, eks: SimulatedEks) -> None:
    """Three demands, with every token and every certificate."""
    eks.rollback("staging-1")
    gateway = mtls.gateway
    tokens = {
        "good": gateway.oncall,
        "bad": (("authorization", "Bearer e30.e30.e30"),),
        "expired": gateway.credentials("oncall", "oncall", lifetime=timedelta(hours=-1)),
        "none": (),
    }
    foreign = mtls.svid("spiffe://evil.example/ops/deploy")
    certificates = {"good": mtls.svid(), "foreign": foreign, "none": None}
    told = {
        (token, own): {
            demand: await mtls.try_call(demand, certificates[own], tokens[token]) for demand in DEMANDS
        }
        for token, own in MATRIX
    }
    assert told == MATRIX


BAD: dict[str, Shape] = {
    "a CA": Shape(ca=True, usage=("digital_signature", "key_cert_sign")),
    "two URI names": Shape(names=[uri(WORKLOAD), uri("spiffe://corp.example/ops/other")]),
    "DNS name that spells an ID": Shape(names=[x509.DNSName(WORKLOAD)]),
    "no names": Shape(names=None),
    "foreign trust domain": Shape(names=[uri("spiffe://evil.example/ops/deploy")]),
    "no path": Shape(names=[uri("spiffe://corp.example")]),
    "query": Shape(names=[uri(f"{WORKLOAD}?a=b")]),
    "port": Shape(names=[uri("spiffe://corp.example:1/ops/deploy")]),
    "userinfo": Shape(names=[uri("spiffe://corp.example@evil.example/ops/deploy")]),
    "dots": Shape(names=[uri("spiffe://corp.example/x/../ops/deploy")]),
    "escape": Shape(names=[uri("spiffe://corp.example/ops/%61")]),
    "over 2048 bytes": Shape(names=[uri(f"{WORKLOAD}/{'a' * 2048}")]),
    "may sign certificates": Shape(usage=("digital_signature", "key_cert_sign")),
}


async def test_bad_certificate_is_refused_before_policy_and_eks(mtls: MtlsGateway, eks: SimulatedEks) -> None:
    """After a handshake that succeeds; a good token does not help."""
    told = {}
    for name, shape in BAD.items():
        own = mtls.authority.issue(shape)
        told[name] = {
            await mtls.try_call("mtls", own),
            await mtls.try_call("both", own, mtls.gateway.oncall),
        }
    assert told == {name: {"CREDENTIALS_INVALID"} for name in BAD}
    assert eks.calls() == ()


UNSHAKEN: dict[str, Shape] = {
    "expired": Shape(starts_s=-7200, ends_s=-1),
    "not yet valid": Shape(starts_s=600),
    "for servers only": Shape(extended=(SERVER,)),
}


async def test_handshake_refuses_expired_and_foreign_certificates(mtls: MtlsGateway) -> None:
    clients = {name: mtls.authority.issue(shape) for name, shape in UNSHAKEN.items()}
    clients["another authority"] = Authority().issue()
    clients["another authority of that name"] = Authority(mtls.authority.name).issue()
    told = {name: await mtls.try_call("mtls", own) for name, own in clients.items()}
    assert told == dict.fromkeys(clients, REFUSED_BY_HANDSHAKE)


async def test_workload_cancels_by_its_spiffe_id(mtls: MtlsGateway, eks: SimulatedEks) -> None:
    """Grant and record name the SPIFFE ID."""
    update_id = eks.rollback("staging-1")
    address = mtls.addresses["mtls"]
    own = mtls.svid()
    credentials = grpc.ssl_channel_credentials(mtls.authority.certificate, own.key, own.certificate)
    async with grpc.aio.secure_channel(address, credentials) as channel:
        request = pb.CancelUpdateRequest(
            cluster=ClusterRef(name="staging-1"), update_id=update_id, request_id="r"
        )
        updates = TlsClient(channel).updates
        cancellation = (await updates.CancelUpdate(request, timeout=20)).cancellation
        assert cancellation.caller == WORKLOAD
        assert cancellation.decision.rule_ids == ["workloads"]
        history = cancellation_service_pb2_grpc.CancellationServiceStub(channel)
        wanted = history_pb.GetCancellationRequest(request_id="r")
        assert (await history.GetCancellation(wanted, timeout=20)).cancellation.caller == WORKLOAD
    stranger = mtls.svid("spiffe://corp.example/other/deploy")
    assert await mtls.try_call("mtls", stranger) == "POLICY_DENIED"


async def test_via_in_a_grant_demands_the_connections_certificate(
    mtls: MtlsGateway, eks: SimulatedEks
) -> None:
    eks.rollback("staging-1")
    robot = mtls.gateway.credentials("robot", "robots")
    proxy, workload = mtls.svid(MESH), mtls.svid()
    assert await mtls.try_call("both", proxy, robot) == PASSED
    assert await mtls.try_call("both", workload, robot) == "POLICY_DENIED"
    assert await mtls.try_call("jwt", proxy, robot) == "POLICY_DENIED"
    assert await mtls.try_call("mtls", proxy, robot) == "POLICY_DENIED"


async def test_health_command_uses_a_client_certificate(mtls: MtlsGateway, tmp_path: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    certificate, key = mtls.svid().write(folder)
    address = mtls.addresses["mtls"]
    common = ("health", "--address", address, "--ca", str(tmp_path / "ca.crt"), "--service", "liveness")
    for own, expected in (
        (("--certificate", str(certificate), "--key", str(key)), (0, "SERVING")),
        ((), (1, f"not serving: {address}: UNAVAILABLE")),
        (("--key", str(key)), (2, "")),
    ):
        async with run_program(*eksgateway_command(*common, *own)) as running:
            code, start = expected
            assert await running.end() == code
            assert running.out.startswith(start)


class Shifted(SystemClock):
    """The machine's clock, some seconds ahead."""

    ahead_s = 0.0

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=self.ahead_s)


async def test_expired_certificate_is_refused_on_an_open_connection(
    tmp_path: Path, eks: SimulatedEks
) -> None:
    update_id = eks.rollback("staging-1")
    authority, clock = Authority(), Shifted()
    serving = build_listeners(tmp_path, authority, "mtls")
    async with run_gateway(tmp_path, eks, data=DATA, clock=clock, listeners=serving) as gateway:
        address = gateway.gateway.listeners[0].address
        async with connect(address, authority.certificate, authority.issue()) as connection:
            await connection.get(update_id)
            clock.ahead_s = 3601
            refusal = await expect_refusal(connection.get(update_id))
            assert refusal.status_and_reason == ("UNAUTHENTICATED", "CREDENTIALS_EXPIRED")


async def test_unbindable_listener_fails_the_start(tmp_path: Path, eks: SimulatedEks) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        second = f"127.0.0.1:{taken.getsockname()[1]}"
        serving = [{"address": "127.0.0.1:0"}, {"address": second}]
        with pytest.raises(SettingsError, match=f"cannot listen on {second}"):
            async with run_gateway(tmp_path, eks, listeners=serving):
                pass
