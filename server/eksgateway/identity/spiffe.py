"""Reads who calls from the leaf of a TLS client certificate: a SPIFFE X.509-SVID, and nothing else.

The handshake has proved the chain, the purpose and the time. What path validation leaves open is
checked here, after SPIFFE's X509-SVID §5.2 and SPIFFE-ID §2 (github.com/spiffe/spiffe, standards/).
TLS libraries' own reading of names is not used: they mix DNS and URI names, and pass any text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import TypeVar

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from eksgateway.clock import Clock
from eksgateway.errors import CredentialsExpired, CredentialsMissing, GatewayError, Unauthenticated
from eksgateway.identity.refusal import invalid
from eksgateway.model import Caller

Kind = TypeVar("Kind", bound=x509.ExtensionType)

MAX_BYTES = 2048  # of a SPIFFE ID (SPIFFE-ID §2.3)
REMEMBERED = 1024  # leaves read before: reading one costs a tenth of a call

# Lower case alone, and none of the signs that begin a user, a port, a query, a fragment or an
# escape: so one identity has one spelling. A caller has a path; the trust domain itself is none.
_ID = re.compile(r"spiffe://(?P<domain>[a-z0-9._-]{1,255})(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._-]+)+")

# What x509 raises for a certificate it cannot read: besides ValueError, classes without a common base.
UNREADABLE = (
    ValueError,
    TypeError,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


@dataclass(frozen=True, slots=True)
class Svid:
    """A leaf that may authenticate its holder; ``expires_at`` is its notAfter."""

    id: str
    trust_domain: str
    expires_at: datetime


class SpiffeIdentity:
    """Identity from the client certificate alone, in one trust domain: that of the CA bundle that the
    handshake checks against, so that no domain's CA can mint another's callers. Metadata plays no part.
    """

    def __init__(self, trust_domain: str, clock: Clock) -> None:
        self._trust_domain = trust_domain
        self._clock = clock
        self._read = lru_cache(maxsize=REMEMBERED)(read_svid)

    async def identify(
        self,
        authorization: Sequence[str | bytes],  # noqa: ARG002  another kind's
        certificate: bytes | None,
    ) -> Caller:
        svid = self.prove(certificate)
        return Caller(type="spiffe", id=svid.id, issuer=svid.trust_domain, expires_at=svid.expires_at)

    def known(
        self,
        authorization: Sequence[str | bytes],  # noqa: ARG002  another kind's
        certificate: bytes | None,
    ) -> str | None:
        try:
            return self.prove(certificate).id
        except GatewayError:
            return None

    def prove(self, certificate: bytes | None) -> Svid:
        """The SVID of a connection, now: connections outlive the handshake that looked at the clock."""
        if certificate is None:
            raise CredentialsMissing("This listener takes calls with a client certificate only.")
        try:
            return self._checked(certificate)
        except Unauthenticated as exc:
            exc.issuer = self._trust_domain
            raise

    def _checked(self, certificate: bytes) -> Svid:
        svid = self._read(certificate)
        if svid.trust_domain != self._trust_domain:
            raise invalid("trust_domain", "The certificate's trust domain is not known to this listener.")
        if self._clock.now() >= svid.expires_at:
            raise CredentialsExpired("This connection's certificate has expired: connect with a new one.")
        return svid


def read_svid(pem: bytes) -> Svid:
    """The SVID in a leaf certificate. Raises CredentialsInvalid."""
    try:
        leaf = x509.load_pem_x509_certificate(pem)
        extensions = leaf.extensions
        expires_at = leaf.not_valid_after_utc
    except UNREADABLE as exc:
        raise invalid("certificate", "The client certificate cannot be read.") from exc
    _check_leaf(extensions)
    spiffe_id, domain = _spiffe_id(extensions)
    return Svid(spiffe_id, domain, expires_at)


def _check_leaf(extensions: x509.Extensions) -> None:
    constraints = _find(extensions, x509.BasicConstraints)
    if constraints is not None and constraints.ca:  # absent is false: RFC 5280 §4.2.1.9
        raise invalid("leaf", "The client certificate is a CA's.")
    usage = _find(extensions, x509.KeyUsage)
    if usage is None or not usage.digital_signature or usage.key_cert_sign or usage.crl_sign:
        raise invalid("usage", "The client certificate's key usage is not that of an X.509-SVID.")
    extended = _find(extensions, x509.ExtendedKeyUsage)
    if extended is not None and ExtendedKeyUsageOID.CLIENT_AUTH not in extended:
        raise invalid("usage", "The client certificate is not for clients.")


def _spiffe_id(extensions: x509.Extensions) -> tuple[str, str]:
    names = _find(extensions, x509.SubjectAlternativeName)
    uris = names.get_values_for_type(x509.UniformResourceIdentifier) if names is not None else []
    if len(uris) != 1:
        raise invalid("uri", "An X.509-SVID has exactly one URI name.")
    uri = uris[0]
    found = _ID.fullmatch(uri) if len(uri) <= MAX_BYTES else None
    if found is None:
        raise invalid("spiffe_id", "The client certificate's URI name is not the SPIFFE ID of a workload.")
    return uri, found["domain"]


def _find(extensions: x509.Extensions, kind: type[Kind]) -> Kind | None:
    return next((each.value for each in extensions if isinstance(each.value, kind)), None)
