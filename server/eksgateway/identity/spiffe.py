"""Authenticates a caller by its TLS client certificate: a SPIFFE X.509-SVID.

The TLS handshake has verified the chain, the purpose and the time. This module checks what else SPIFFE
requires (X509-SVID §5.2 and SPIFFE-ID §2; github.com/spiffe/spiffe, standards/). TLS libraries mix DNS and
URI names and accept any text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final, TypeVar

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from eksgateway.clock import Clock
from eksgateway.errors import CredentialsExpired, CredentialsMissing, GatewayError, Unauthenticated
from eksgateway.identity.invalid_credentials import invalid_credentials
from eksgateway.model import Caller

ExtensionT = TypeVar("ExtensionT", bound=x509.ExtensionType)

MAX_BYTES: Final = 2048  # of a SPIFFE ID (SPIFFE-ID §2.3)
CACHED_CERTIFICATES: Final = 1024  # parsing one takes a tenth of the time of a call

# Without user, port, query, fragment and escapes, so each identity has one spelling. An ID without a path is
# the trust domain's own.
_ID: Final = re.compile(r"spiffe://(?P<domain>[a-z0-9._-]{1,255})(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._-]+)+")

# x509 raises these for a certificate that it cannot parse.
CERTIFICATE_ERRORS: Final = (
    ValueError,
    TypeError,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


@dataclass(frozen=True, slots=True)
class Svid:
    """``expires_at`` is the certificate's notAfter."""

    id: str
    trust_domain: str
    expires_at: datetime


class SpiffeIdentity:
    """Accepts the trust domain of the listener's CA bundle, so that no CA can issue IDs of another."""

    def __init__(self, trust_domain: str, clock: Clock) -> None:
        self._trust_domain = trust_domain
        self._clock = clock
        self._read = lru_cache(maxsize=CACHED_CERTIFICATES)(read_svid)

    async def identify(self, authorization: Sequence[str | bytes], certificate: bytes | None) -> Caller:
        svid = self.authenticate(certificate)
        return Caller(type="spiffe", id=svid.id, issuer=svid.trust_domain, expires_at=svid.expires_at)

    def recall_caller_id(self, authorization: Sequence[str | bytes], certificate: bytes | None) -> str | None:
        try:
            return self.authenticate(certificate).id
        except GatewayError:
            return None

    def authenticate(self, certificate: bytes | None) -> Svid:
        """Checks the time again: a connection may outlive its certificate.

        Raises CredentialsMissing, CredentialsInvalid or CredentialsExpired.
        """
        if certificate is None:
            raise CredentialsMissing("This listener takes calls with a client certificate only.")
        try:
            return self._check(self._read(certificate))
        except Unauthenticated as exc:
            exc.issuer = self._trust_domain
            raise

    def _check(self, svid: Svid) -> Svid:
        if svid.trust_domain != self._trust_domain:
            raise invalid_credentials(
                "trust_domain", "The certificate's trust domain is not known to this listener."
            )
        if self._clock.now() >= svid.expires_at:
            raise CredentialsExpired("This connection's certificate has expired: connect with a new one.")
        return svid


def read_svid(pem: bytes) -> Svid:
    """Raises CredentialsInvalid."""
    try:
        leaf = x509.load_pem_x509_certificate(pem)
        extensions = leaf.extensions
        expires_at = leaf.not_valid_after_utc
    except CERTIFICATE_ERRORS as exc:
        raise invalid_credentials("certificate", "The client certificate cannot be read.") from exc
    _check_leaf(extensions)
    spiffe_id, domain = _read_spiffe_id(extensions)
    return Svid(spiffe_id, domain, expires_at)


def _check_leaf(extensions: x509.Extensions) -> None:
    constraints = _find_extension(extensions, x509.BasicConstraints)
    if constraints is not None and constraints.ca:  # absent means false (RFC 5280 §4.2.1.9)
        raise invalid_credentials("leaf", "The client certificate is a CA's.")
    usage = _find_extension(extensions, x509.KeyUsage)
    if usage is None or not usage.digital_signature or usage.key_cert_sign or usage.crl_sign:
        raise invalid_credentials("usage", "The client certificate's key usage is not that of an X.509-SVID.")
    extended = _find_extension(extensions, x509.ExtendedKeyUsage)
    if extended is not None and ExtendedKeyUsageOID.CLIENT_AUTH not in extended:
        raise invalid_credentials("usage", "The client certificate is not for clients.")


def _read_spiffe_id(extensions: x509.Extensions) -> tuple[str, str]:
    """The SPIFFE ID and its trust domain."""
    names = _find_extension(extensions, x509.SubjectAlternativeName)
    uris = names.get_values_for_type(x509.UniformResourceIdentifier) if names is not None else []
    if len(uris) != 1:
        raise invalid_credentials("uri", "An X.509-SVID has exactly one URI name.")
    uri = uris[0]
    match = _ID.fullmatch(uri) if len(uri) <= MAX_BYTES else None
    if match is None:
        raise invalid_credentials(
            "spiffe_id", "The client certificate's URI name is not the SPIFFE ID of a workload."
        )
    return uri, match["domain"]


def _find_extension(extensions: x509.Extensions, kind: type[ExtensionT]) -> ExtensionT | None:
    return next((each.value for each in extensions if isinstance(each.value, kind)), None)
