"""Proves who calls by a JWT in `authorization: Bearer`, after RFC 8725. Knows no other kind of credential.

The story of one token: its form → its issuer, by the exact `iss` it claims → that issuer's keys, and
no other's → its signature → its claims → the clock. Whatever fails ends the story.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from eksgateway.clock import Clock
from eksgateway.errors import CredentialsExpired
from eksgateway.identity.claims import standing
from eksgateway.identity.compact import Compact, bearer, parse
from eksgateway.identity.jwks import Ages, IssuerKeys
from eksgateway.identity.keys import VerificationKey, check_signature
from eksgateway.identity.refusal import invalid
from eksgateway.identity.sources import source_of
from eksgateway.identity.verified import Proof, VerifiedTokens
from eksgateway.model import Caller
from eksgateway.settings import IssuerSettings, JwtSettings

CheckSignature = Callable[[Compact, VerificationKey], None]


@dataclass(frozen=True, slots=True)
class _Issuer:
    settings: IssuerSettings
    keys: IssuerKeys


class JwtIdentity:
    """Identity from JWTs of the configured issuers. ``check`` verifies one signature or raises."""

    def __init__(
        self, settings: JwtSettings, clock: Clock, *, check: CheckSignature = check_signature
    ) -> None:
        ages = Ages(settings.jwks_max_age_s, settings.jwks_cooldown_s)
        self._issuers = {
            issuer.issuer: _Issuer(
                issuer, IssuerKeys(issuer.name, source_of(issuer.jwks, settings.jwks_timeout_s), ages, clock)
            )
            for issuer in settings.issuers
        }
        self._leeway = timedelta(seconds=settings.leeway_s)
        self._verified = VerifiedTokens(settings.verified_tokens)
        self._clock = clock
        self._check = check

    async def identify(
        self,
        authorization: Sequence[str | bytes],
        certificate: bytes | None = None,  # noqa: ARG002  plays no part for a token
    ) -> Caller:
        text = bearer(authorization)
        known = await self._remembered(text)
        proof = known or await self._verify(parse(text))
        try:
            proof.standing.check(self._clock.now())
        except CredentialsExpired:
            self._verified.drop(text)
            raise
        if known is None:
            self._verified.put(text, proof)
        return proof.standing.caller

    def known(
        self,
        authorization: Sequence[str | bytes],
        certificate: bytes | None = None,  # noqa: ARG002  plays no part for a token
    ) -> str | None:
        if len(authorization) != 1:
            return None
        value = authorization[0]
        text = value.decode("latin-1") if isinstance(value, bytes) else value
        proof = self._verified.find(text.partition(" ")[2])
        return proof.standing.caller.id if proof and proof.standing.stands(self._clock.now()) else None

    async def close(self) -> None:
        """Release connections."""
        for issuer in self._issuers.values():
            await issuer.keys.close()

    async def _remembered(self, text: str) -> Proof | None:
        """The proof of a token seen before, if it was made with the keys its issuer has now."""
        proof = self._verified.get(text)
        if proof is None:
            return None
        keys = await self._issuers[proof.standing.caller.issuer].keys.current()
        if proof.keys is keys:
            return proof
        self._verified.drop(text)
        return None

    async def _verify(self, token: Compact) -> Proof:
        claimed = token.claims.get("iss")
        issuer = self._issuers.get(claimed) if isinstance(claimed, str) else None
        if issuer is None:
            raise invalid("iss", "The token's issuer is not known to this gateway.")
        if token.algorithm not in issuer.settings.algorithms:
            raise invalid("alg", "The token's `alg` is not accepted from its issuer.")
        keys = await issuer.keys.current()
        if token.kid is not None and not keys.knows(token.kid):
            keys = await issuer.keys.refreshed()
        self._check(token, keys.find(token))
        return Proof(standing(token.claims, issuer.settings, self._leeway), keys)
