"""Chooses how a listener authenticates its callers: by token, by certificate, or by both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from eksgateway.clock import Clock
from eksgateway.identity.protocol import Identity
from eksgateway.identity.spiffe import SpiffeIdentity
from eksgateway.model import Caller
from eksgateway.settings import ListenerSettings


@dataclass(frozen=True, slots=True)
class TokenAndCertificateIdentity:
    """For `demand: both`. The caller is the token's; the certificate's SPIFFE ID is ``Caller.via``."""

    tokens: Identity
    certificates: SpiffeIdentity

    async def identify(self, authorization: Sequence[str | bytes], certificate: bytes | None) -> Caller:
        svid = self.certificates.authenticate(certificate)
        caller = await self.tokens.identify(authorization, None)
        ends = [time for time in (caller.expires_at, svid.expires_at) if time is not None]
        return replace(caller, via=svid.id, expires_at=min(ends))

    def recall_caller_id(self, authorization: Sequence[str | bytes], certificate: bytes | None) -> str | None:
        if self.certificates.recall_caller_id((), certificate) is None:
            return None
        return self.tokens.recall_caller_id(authorization, None)


def choose_identity(listener: ListenerSettings, tokens: Identity | None, clock: Clock) -> Identity:
    """All listeners that demand a token share ``tokens``."""
    certificates = SpiffeIdentity(listener.trust_domain, clock) if listener.trust_domain else None
    if not listener.requires_token and certificates is not None:
        return certificates
    if listener.requires_certificate and certificates is not None and tokens is not None:
        return TokenAndCertificateIdentity(tokens, certificates)
    if not listener.requires_certificate and tokens is not None:
        return tokens
    raise ValueError(f"the settings lack what `demand: {listener.demand}` needs")
