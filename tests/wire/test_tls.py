"""TLS from certificate files; the test makes its own CA."""

from __future__ import annotations

import datetime as dt
import ipaddress
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from grpc_health.v1 import health_pb2, health_pb2_grpc

from eksgateway.settings import SettingsError
from support.gateway import running
from support.simulator import SimulatedEks


def self_signed(path: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 and its key, as PEM files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    (path / "tls.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (path / "tls.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return path / "tls.crt", path / "tls.key"


async def test_a_client_that_trusts_the_certificate_is_served_over_tls(
    tmp_path: Path, eks: SimulatedEks
) -> None:
    """And one in plaintext is not."""
    certificate, key = self_signed(tmp_path)
    async with running(tmp_path, eks, tls={"certificate": certificate, "key": key}) as gateway:
        request = health_pb2.HealthCheckRequest(service="liveness")
        credentials = grpc.ssl_channel_credentials(certificate.read_bytes())
        async with grpc.aio.secure_channel(gateway.address, credentials) as channel:
            answer = await health_pb2_grpc.HealthStub(channel).Check(request, timeout=10)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await health_pb2_grpc.HealthStub(gateway.channel).Check(request, timeout=10)
        assert error.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_certificate_that_cannot_be_used_fails_the_start(tmp_path: Path, eks: SimulatedEks) -> None:
    """Missing, or not a certificate: said with its path."""
    certificate, key = self_signed(tmp_path)
    with pytest.raises(SettingsError, match=r"missing\.crt"):
        async with running(tmp_path, eks, tls={"certificate": tmp_path / "missing.crt", "key": key}):
            pass
    certificate.write_text("no certificate")
    with pytest.raises(SettingsError, match=r"tls\.crt"):
        async with running(tmp_path, eks, tls={"certificate": certificate, "key": key}):
            pass
