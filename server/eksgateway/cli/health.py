"""`eksgateway health`: checks a running gateway."""

from __future__ import annotations

from typing import Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from eksgateway.cli.session import find_connection
from eksgateway.cli.shared_options import ConnectionOptions
from eksgateway.client.addresses import find_hint
from eksgateway.client.error_report import printable

TIMEOUT_S: Final = 3


def check(options: ConnectionOptions, service: str) -> int:
    """Return the exit code. Raises CommandError."""
    connection = find_connection(options)
    return call_check(connection.address, connection.credentials(), service)


def call_check(
    address: str, credentials: grpc.ChannelCredentials | None, service: str, name: str | None = None
) -> int:
    """``name`` is the name to expect in the certificate, by default that of the address."""
    if credentials is None:
        channel = grpc.insecure_channel(address)
    else:
        options = [("grpc.ssl_target_name_override", name)] if name else []
        channel = grpc.secure_channel(address, credentials, options=options)
    with channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(  # type: ignore[attr-defined]  # stubs lack it
                health_pb2.HealthCheckRequest(service=service), timeout=TIMEOUT_S
            )
        except grpc.RpcError as exc:
            details = exc.details() or ""
            fault = ": ".join(filter(None, (exc.code().name, details, find_hint(details))))
            print(f"not serving: {address}: {printable(fault)}")
            return 1
    statuses = health_pb2.HealthCheckResponse.ServingStatus
    known = answer.status in statuses.values()
    print(statuses.Name(answer.status) if known else f"status {answer.status}")
    return 0 if answer.status == health_pb2.HealthCheckResponse.SERVING else 1
