"""Checks a gateway's address, and explains why connecting to it fails."""

from __future__ import annotations

import asyncio
import re
import ssl
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Final

_ADDRESS: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+):([0-9]{1,5})")
_SCHEME: Final = re.compile(r"(dns|ipv4|ipv6|unix|unix-abstract|xds):.+")
_PROBE_S: Final = 2.0
_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"

# Parts of grpc's error texts, the only way to distinguish these causes.
_HINTS: Final = (
    ("certificate has expired", "the gateway's certificate has expired: have it renewed"),
    ("CERTIFICATE_VERIFY_FAILED", "the gateway's certificate is from no CA in this bundle: give its CA's"),
    ("Hostname Verification", "the gateway's certificate is for another name: use an address that it names"),
    ("WRONG_VERSION_NUMBER", "no TLS is spoken there: connect in plaintext, without a CA bundle"),
    ("Tls handshake failed", "the TLS handshake fails: compare CA bundle, certificate and key"),
    ("security handshaker", "the CA bundle, the certificate or its key is not valid PEM"),
    ("errors resolving", "the host's name is not known: correct the address"),
    ("DNS resolution failed", "the host's name is not known: correct the address"),
    ("http1.x server", "an HTTP/1.1 server answers there, and no gateway: correct the address or its port"),
    ("Expected SETTINGS frame", "something else than gRPC answers there: correct the address or its port"),
    ("target uri is not valid", "the address is not valid: write it as host:port"),
)


@dataclass(frozen=True, slots=True)
class AddressFault:
    """``certain`` is false where an unavailable gateway may look the same."""

    text: str
    certain: bool


def check_address(address: str) -> str:
    """Raises ValueError unless the address is host:port or a gRPC target with a scheme."""
    match = _ADDRESS.fullmatch(address)
    if _SCHEME.fullmatch(address) or (match and 0 < int(match[2]) <= 65535):
        return address
    raise ValueError(
        f"{address!r} is not an address: write it as host:port, for example gateway.example:50051 or"
        " [::1]:50051"
    )


def find_hint(details: str) -> str:
    """How to correct a connection error; empty if the gateway may just be unavailable."""
    return next((hint for text, hint in _HINTS if text in details), "")


async def probe_tls(address: str) -> str:
    """``tls`` for a TLS server, ``closed`` for one that closes after the handshake, else empty."""
    match = _ADDRESS.fullmatch(address)
    if match is None:
        return ""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # the probe sends no credentials and uses no answer
    context.set_alpn_protocols(["h2"])
    try:
        async with asyncio.timeout(_PROBE_S):
            reader, writer = await asyncio.open_connection(match[1].strip("[]"), int(match[2]), ssl=context)
            with closing(writer):
                writer.write(_PREFACE)
                with suppress(ssl.SSLError):  # TLS 1.3 reports a missing client certificate only here
                    return "tls" if await reader.read(1) else "closed"
                return "closed"
    except ssl.SSLError as exc:  # a server without TLS sends no alert
        return "tls" if "ALERT" in (exc.reason or "") else ""
    except OSError:  # includes TimeoutError
        return ""
