"""What a listener demands of its callers: a token, a certificate, or both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from eksgateway.clock import Clock
from eksgateway.identity.protocol import Identity
from eksgateway.identity.spiffe import SpiffeIdentity
from eksgateway.model import Caller
from eksgateway.settings import ListenerSettings


class Both:
    """The token's caller, over the certificate's connection. Each has to be good by itself: a token that
    is not never falls back to the certificate.
    """

    def __init__(self, tokens: Identity, certificates: SpiffeIdentity) -> None:
        self._tokens = tokens
        self._certificates = certificates

    async def identify(self, authorization: Sequence[str | bytes], certificate: bytes | None) -> Caller:
        svid = self._certificates.prove(certificate)
        caller = await self._tokens.identify(authorization, None)
        ends = [time for time in (caller.expires_at, svid.expires_at) if time is not None]
        return replace(caller, via=svid.id, expires_at=min(ends))

    def known(self, authorization: Sequence[str | bytes], certificate: bytes | None) -> str | None:
        return self._tokens.known(authorization, None) if self._certificates.known((), certificate) else None


def demanded(listener: ListenerSettings, tokens: Identity | None, clock: Clock) -> Identity:
    """The identity of one listener. ``tokens`` is shared by all that demand a token."""
    certificates = SpiffeIdentity(listener.trust_domain, clock) if listener.trust_domain else None
    if listener.demand == "mtls" and certificates is not None:
        return certificates
    if listener.demand == "both" and certificates is not None and tokens is not None:
        return Both(tokens, certificates)
    if listener.demand == "jwt" and tokens is not None:
        return tokens
    raise ValueError(f"the settings do not give what `demand: {listener.demand}` needs")
