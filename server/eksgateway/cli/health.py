"""`eksgateway health`: asks a running gateway, as a container's health check does."""

from __future__ import annotations

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from eksgateway.cli.connection import Connection

_TIMEOUT_S = 3


def check(connection: Connection, service: str) -> int:
    """The exit code; says why on standard output when it is not 0. Raises SettingsError."""
    address, credentials = connection.address, connection.credentials()
    with (
        grpc.secure_channel(address, credentials)
        if credentials
        else grpc.insecure_channel(address) as channel
    ):
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(  # type: ignore[attr-defined]  # stubs lack it
                health_pb2.HealthCheckRequest(service=service), timeout=_TIMEOUT_S
            )
        except grpc.RpcError as exc:
            print(f"not serving: {connection.address}: {exc.code().name}")
            return 1
    status = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    print(status)
    return 0 if answer.status == health_pb2.HealthCheckResponse.SERVING else 1


def _channel(connection: Connection) -> grpc.Channel:
    credentials = connection.credentials()
    if credentials is None:
        return grpc.insecure_channel(connection.address)
    return grpc.secure_channel(connection.address, credentials)
