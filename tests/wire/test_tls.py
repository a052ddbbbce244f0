"""TLS from certificate files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from eksgateway.settings import SettingsError
from support.authority import Authority
from support.gateway import run_gateway
from support.simulator import SimulatedEks


def tls(certificate: Path, key: Path) -> list[dict[str, Any]]:
    return [{"address": "127.0.0.1:0", "tls": {"certificate": certificate, "key": key}}]


async def check(channel: grpc.aio.Channel, request: health_pb2.HealthCheckRequest) -> Any:
    stub: Any = health_pb2_grpc.HealthStub(channel)  # its stubs do not know Check
    return await stub.Check(request, timeout=10)


async def test_client_that_trusts_the_certificate_is_served(tmp_path: Path, eks: SimulatedEks) -> None:
    """A plaintext client is not."""
    authority = Authority()
    certificate, key = authority.server().write(tmp_path)
    async with run_gateway(tmp_path, eks, listeners=tls(certificate, key)) as gateway:
        request = health_pb2.HealthCheckRequest(service="liveness")
        credentials = grpc.ssl_channel_credentials(authority.certificate)
        async with grpc.aio.secure_channel(gateway.address, credentials) as channel:
            answer = await check(channel, request)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await check(gateway.channel, request)
        assert error.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_unusable_certificate_fails_the_start(tmp_path: Path, eks: SimulatedEks) -> None:
    """The error names the path."""
    certificate, key = Authority().server().write(tmp_path)
    with pytest.raises(SettingsError, match=r"missing\.crt"):
        async with run_gateway(tmp_path, eks, listeners=tls(tmp_path / "missing.crt", key)):
            pass
    certificate.write_text("no certificate")
    with pytest.raises(SettingsError, match=r"tls\.crt"):
        async with run_gateway(tmp_path, eks, listeners=tls(certificate, key)):
            pass
