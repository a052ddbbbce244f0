"""`eksgateway health`: asks a running gateway, as a container's health check does."""

from __future__ import annotations

from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from eksgateway.settings import SettingsError

_TIMEOUT_S = 3


def check(address: str, ca: Path | None, own: tuple[Path, Path] | None, service: str) -> int:
    """The exit code; says why on standard output when it is not 0. ``own`` is a certificate and its key."""
    with _channel(address, ca, own) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(  # type: ignore[attr-defined]  # stubs lack it
                health_pb2.HealthCheckRequest(service=service), timeout=_TIMEOUT_S
            )
        except grpc.RpcError as exc:
            print(f"not serving: {address}: {exc.code().name}")
            return 1
    status = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    print(status)
    return 0 if answer.status == health_pb2.HealthCheckResponse.SERVING else 1


def _channel(address: str, ca: Path | None, own: tuple[Path, Path] | None) -> grpc.Channel:
    if ca is None:
        return grpc.insecure_channel(address)
    certificate, key = (_read(path) for path in own) if own else (None, None)
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(_read(ca), key, certificate))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise SettingsError(f"{path}: cannot be read: {exc.strerror}") from exc
