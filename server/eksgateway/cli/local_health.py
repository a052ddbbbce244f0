"""`eksgateway health --config`: checks the gateway of this machine, for containers."""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import NameOID

from eksgateway.addresses import join_address, split_address
from eksgateway.cli.connection import tls_credentials
from eksgateway.cli.health import TIMEOUT_S, call_check
from eksgateway.errors import SettingsError
from eksgateway.settings import ListenerSettings, load


def check_local(config: Path, pair: tuple[Path, Path] | None, service: str) -> int:
    """Return the exit code, for the gateway on this machine that has these settings. Raises SettingsError.

    It trusts the certificate that is served there, whatever its name and issuer: the check is about
    serving, not identity. ``pair`` is the client certificate and key for listeners that demand one; by
    default the gateway's own pair, which works if one CA issues for both.
    """
    listeners = load(config).listeners
    listener = next((each for each in listeners if not each.requires_certificate), listeners[0])
    host, port = _local_address(listener)
    address = join_address(host, port)
    if listener.tls is None:
        return call_check(address, None, service)
    try:
        served = _fetch_certificate(host, port)
    except OSError as exc:  # ssl.SSLError too
        fault = exc.strerror or str(exc)
        if isinstance(exc, ssl.SSLError) and exc.reason == "WRONG_VERSION_NUMBER":
            fault = (
                "no TLS is spoken there, and the settings have `tls`: another program listens on this port"
            )
        print(f"not serving: {address}: {fault}")
        return 1
    shown = pair or (listener.tls.certificate, listener.tls.key)
    certificate, key = shown if listener.requires_certificate else (None, None)
    credentials = tls_credentials(ssl.DER_cert_to_PEM_cert(served).encode(), certificate, key)
    return call_check(address, credentials, service, name=_host_name_of(served))


def _local_address(listener: ListenerSettings) -> tuple[str, int]:
    host, port = split_address(listener.address)
    if port == 0:
        raise SettingsError(f"`address: {listener.address}` takes any port, so its health cannot be checked")
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port  # noqa: S104  nothing is bound


def _fetch_certificate(host: str, port: int) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    with socket.create_connection((host, port), TIMEOUT_S) as plain, context.wrap_socket(plain) as secured:
        return secured.getpeercert(binary_form=True) or b""


def _host_name_of(served: bytes) -> str:
    certificate = x509.load_der_x509_certificate(served)
    with suppress(x509.ExtensionNotFound):
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        for dns in names.get_values_for_type(x509.DNSName):
            return dns.replace("*", "health", 1)
        for ip in names.get_values_for_type(x509.IPAddress):
            return str(ip)
    for common in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME):
        return str(common.value)
    raise SettingsError(
        "the certificate that the gateway serves names no host, and gRPC does not trust it without: give it a"
        " DNS name"
    )
