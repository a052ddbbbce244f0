"""`eksgateway health`: asks a running gateway, as a container's health check does."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.x509.oid import NameOID
from grpc_health.v1 import health_pb2, health_pb2_grpc

from eksgateway.cli.connection import Connection, credentials_of
from eksgateway.client.addresses import find_hint
from eksgateway.client.error_report import printable
from eksgateway.settings import ListenerSettings, Settings, SettingsError, load

_TIMEOUT_S = 3


def check(connection: Connection, service: str) -> int:
    """The exit code; says why on standard output when it is not 0. Raises SettingsError."""
    credentials = connection.credentials()
    if credentials is None:
        return _ask(connection.address, grpc.insecure_channel(connection.address), service)
    return _ask(connection.address, grpc.secure_channel(connection.address, credentials), service)


def check_own(config: Path, own: tuple[Path, Path] | None, service: str) -> int:
    """As ``check``, of the gateway that these settings make on this machine.

    It trusts the very certificate that is served there, whatever name and issuer that has: this tells
    whether a gateway serves, and not who it is. ``own`` is a certificate and its key, for listeners that
    demand one; the gateway's own pair serves where its CA is also the clients'.
    """
    listener = _to_ask(load(config))
    host, port = _reached_at(listener)
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if listener.tls is None:
        return _ask(address, grpc.insecure_channel(address), service)
    try:
        served = _served(host, port)
    except OSError as exc:  # also what TLS has to say
        print(f"not serving: {address}: {_why_no_tls(exc)}")
        return 1
    pair = (own or (listener.tls.certificate, listener.tls.key)) if listener.requires_certificate else None
    credentials = credentials_of(ssl.DER_cert_to_PEM_cert(served).encode(), pair)
    options = [("grpc.ssl_target_name_override", _name(served))]
    return _ask(address, grpc.secure_channel(address, credentials, options=options), service)


def _ask(address: str, channel: grpc.Channel, service: str) -> int:
    with channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(  # type: ignore[attr-defined]  # stubs lack it
                health_pb2.HealthCheckRequest(service=service), timeout=_TIMEOUT_S
            )
        except grpc.RpcError as exc:
            print(f"not serving: {address}: {_why(exc)}")
            return 1
    statuses = health_pb2.HealthCheckResponse.ServingStatus
    known = answer.status in statuses.values()
    print(statuses.Name(answer.status) if known else f"status {answer.status}")
    return 0 if answer.status == health_pb2.HealthCheckResponse.SERVING else 1


def _why(error: grpc.RpcError) -> str:
    """The status, its message, and what to correct if that is known: on one line."""
    details = error.details() or ""
    return printable(": ".join(filter(None, (error.code().name, details, find_hint(details)))))


def _to_ask(settings: Settings) -> ListenerSettings:
    """One that asks for no certificate, if there is one."""
    return next((each for each in settings.listeners if not each.requires_certificate), settings.listeners[0])


def _reached_at(listener: ListenerSettings) -> tuple[str, int]:
    host, _, port = listener.address.rpartition(":")
    if port == "0":
        raise SettingsError(f"`address: {listener.address}` takes any port, so none can be asked for health")
    host = host.strip("[]")
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), int(port)  # noqa: S104  nothing is bound


def _served(host: str, port: int) -> bytes:
    """The certificate served there, DER."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    with socket.create_connection((host, port), _TIMEOUT_S) as plain, context.wrap_socket(plain) as secured:
        return secured.getpeercert(binary_form=True) or b""


def _why_no_tls(error: OSError) -> str:
    if isinstance(error, ssl.SSLError) and error.reason == "WRONG_VERSION_NUMBER":
        return "no TLS is spoken there, and the settings have `tls`: another program listens on this port"
    return error.strerror or str(error)


def _name(served: bytes) -> str:
    """A name that the certificate is good for. Raises SettingsError."""
    certificate = x509.load_der_x509_certificate(served)
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        names = x509.SubjectAlternativeName([])
    for dns in names.get_values_for_type(x509.DNSName):
        return dns.replace("*", "health", 1)
    for ip in names.get_values_for_type(x509.IPAddress):
        return str(ip)
    for common in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME):
        return str(common.value)
    raise SettingsError(
        "the certificate that the gateway serves names no host, and gRPC trusts none that does not: give it a"
        " DNS name"
    )
