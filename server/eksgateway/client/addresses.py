"""What is wrong with a gateway's address, when it can be known."""

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


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with an address; ``certain`` unless a gateway that is away may look like it."""

    text: str
    certain: bool


def check_address(address: str) -> str:
    """The address. Raises ValueError when it is neither host:port nor a target with a scheme."""
    match = _ADDRESS.fullmatch(address)
    if _SCHEME.fullmatch(address) or (match and 0 < int(match[2]) <= 65535):
        return address
    raise ValueError(
        f"{address!r} is no address: write it as host:port, for example gateway.example:50051 or [::1]:50051"
    )


_HINTS: Final = (
    ("certificate has expired", "the gateway's certificate has expired: have it renewed"),
    (
        "CERTIFICATE_VERIFY_FAILED",
        "the gateway's certificate is from no CA in this bundle: give its CA's",
    ),
    ("Hostname Verification", "the gateway's certificate is for another name: use an address that it names"),
    ("WRONG_VERSION_NUMBER", "no TLS is spoken there: connect in plaintext, without a CA bundle"),
    ("Tls handshake failed", "the TLS handshake fails: compare CA bundle, certificate and key"),
    ("security handshaker", "the CA bundle, the certificate or its key is no PEM that can be used"),
    ("errors resolving", "the host's name is not known: correct the address"),
    ("DNS resolution failed", "the host's name is not known: correct the address"),
    ("http1.x server", "an HTTP/1.1 server answers there, and no gateway: correct the address or its port"),
    ("Expected SETTINGS frame", "something else than gRPC answers there: correct the address or its port"),
    ("target uri is not valid", "the address is none: write it as host:port"),
)


def hint_of(details: str) -> str:
    """What to correct when connecting fails like this; empty for a gateway that may be away.

    grpc has no other way to tell these apart; a text that it changes loses its hint and nothing else.
    """
    return next((hint for text, hint in _HINTS if text in details), "")


async def look(address: str) -> str:
    """What is spoken at host:port: ``tls``, ``closed`` (TLS, and closed after the handshake), or empty."""
    match = _ADDRESS.fullmatch(address)
    if match is None:
        return ""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # nothing is sent that counts, and nothing believed
    context.set_alpn_protocols(["h2"])
    try:
        async with asyncio.timeout(_PROBE_S):
            reader, writer = await asyncio.open_connection(match[1].strip("[]"), int(match[2]), ssl=context)
            with closing(writer):
                writer.write(_PREFACE)
                with suppress(ssl.SSLError):  # by TLS 1.3 the demand of a certificate shows so late
                    return "tls" if await reader.read(1) else "closed"
                return "closed"
    except ssl.SSLError as exc:  # an end that does not speak TLS sends no alert
        return "tls" if "ALERT" in (exc.reason or "") else ""
    except OSError:  # TimeoutError too
        return ""
