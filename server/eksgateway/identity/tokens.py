"""Proves who calls by a JWT in `authorization: Bearer`, after RFC 8725. Knows no other kind of credential.

The story of one token: its form → its issuer, by the exact `iss` it claims → that issuer's keys, and
no other's → its signature → its claims → the clock. Whatever fails ends the story.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from eksgateway.clock import Clock
from eksgateway.errors import CredentialsExpired, IdentityUnavailable, Unauthenticated
from eksgateway.identity.claims import Standing, standing
from eksgateway.identity.compact import Compact, bearer, parse
from eksgateway.identity.jwks import Ages, IssuerKeys
from eksgateway.identity.keys import KeySet, VerificationKey, verifies
from eksgateway.identity.refusal import invalid
from eksgateway.identity.sources import FileSource, Source
from eksgateway.identity.verified import Proof, VerifiedTokens
from eksgateway.identity.web import Address, UrlSource
from eksgateway.logs import Log
from eksgateway.model import Caller
from eksgateway.settings import IssuerSettings, JwtSettings

log = Log(__name__)

Verifies = Callable[[Compact, VerificationKey], bool]
CountGroups = Callable[[str, str, int], None]


def _count_nothing(issuer: str, why: str, groups: int) -> None:
    """Where there are no metrics."""


@dataclass(frozen=True, slots=True)
class _Issuer:
    settings: IssuerSettings
    keys: IssuerKeys


class JwtIdentity:
    """Identity from JWTs of the configured issuers. ``verifies`` is whether a key signed a token;
    ``count_groups`` is called with an issuer's name, why groups of a token do not count, and how many.
    """

    def __init__(
        self,
        settings: JwtSettings,
        clock: Clock,
        *,
        verifies: Verifies = verifies,
        count_groups: CountGroups = _count_nothing,
    ) -> None:
        ages = Ages(settings.jwks_max_age_s, settings.jwks_cooldown_s)
        self._issuers = {
            issuer.issuer: _Issuer(
                issuer, IssuerKeys(issuer.name, _source_of(issuer, settings.jwks_timeout_s), ages, clock)
            )
            for issuer in settings.issuers
        }
        self._leeway = timedelta(seconds=settings.leeway_s)
        self._verified = VerifiedTokens(settings.verified_tokens)
        self._clock = clock
        self._verifies = verifies
        self._count_groups = count_groups

    def start(self) -> None:
        """Get the keys, and keep to what their files hold. Without this they are fetched by calls alone."""
        for issuer in self._issuers.values():
            issuer.keys.start()

    def reload(self) -> None:
        """Get the keys again: a key that its issuer has removed ends with this."""
        for issuer in self._issuers.values():
            issuer.keys.reload()

    async def settle(self, within: float) -> None:
        """Return when the first fetches have ended, or after so many seconds."""
        firsts = [asyncio.ensure_future(issuer.keys.first()) for issuer in self._issuers.values()]
        _, late = await asyncio.wait(firsts, timeout=within)
        for first in late:
            first.cancel()

    async def check(self) -> None:
        """Whether each issuer has had keys once. Raises IdentityUnavailable; the log has the cause."""
        missing = [issuer.settings.name for issuer in self._issuers.values() if not issuer.keys.had]
        if missing:
            raise IdentityUnavailable(detail=f"no keys of {', '.join(missing)}")

    async def identify(
        self,
        authorization: Sequence[str | bytes],
        certificate: bytes | None = None,  # noqa: ARG002  plays no part for a token
    ) -> Caller:
        text = bearer(authorization)
        known = await self._remembered(text)
        proof = known or await self._prove(parse(text))
        try:
            proof.standing.check(self._clock.now())
        except Unauthenticated as exc:
            exc.issuer = self._issuers[proof.standing.caller.issuer].settings.name
            if isinstance(exc, CredentialsExpired):
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
        """Stop fetching."""
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

    async def _prove(self, token: Compact) -> Proof:
        claimed = token.claims.get("iss")
        issuer = self._issuers.get(claimed) if isinstance(claimed, str) else None
        if issuer is None:
            raise invalid("iss", "The token's issuer is not known to this gateway.")
        try:
            keys = await self._signed(token, issuer)
            stands = standing(token.claims, issuer.settings, self._leeway)
        except Unauthenticated as exc:
            exc.issuer = issuer.settings.name
            raise
        self._note(stands, issuer.settings)
        return Proof(stands, keys)

    async def _signed(self, token: Compact, issuer: _Issuer) -> KeySet:
        """The key set with the key that signed the token. A token that does not verify may have been signed
        with a newer key, also under a known `kid`: so the keys are looked up again.
        """
        if token.algorithm not in issuer.settings.algorithms:
            raise invalid("alg", "The token's `alg` is not accepted from its issuer.")
        keys = await issuer.keys.current()
        if await self._verify(token, keys):
            return keys
        newer = await issuer.keys.refreshed()
        if newer is not keys and await self._verify(token, newer):
            return newer
        if newer.fitting(token):
            raise invalid("signature", "The token's signature does not verify.")
        raise invalid("kid", "The token's issuer has no key that fits the token's `kid` and `alg`.")

    async def _verify(self, token: Compact, keys: KeySet) -> bool:
        for number, key in enumerate(keys.fitting(token)):
            if number:
                await asyncio.sleep(0)  # one check takes up to half a millisecond
            if self._verifies(token, key):
                return True
        return False

    def _note(self, stands: Standing, issuer: IssuerSettings) -> None:
        if stands.dropped:
            self._count_groups(issuer.name, "unusable", stands.dropped)
            log.warning(
                "identity.groups_dropped", issuer=issuer.name, caller=stands.caller.id, dropped=stands.dropped
            )
        if stands.overage:
            self._count_groups(issuer.name, "overage", 1)
            log.warning(
                "identity.groups_overage",
                issuer=issuer.name,
                caller=stands.caller.id,
                note="The issuer left the groups out of the token, because there are too many: grants to"
                " groups do not count for this caller. Assign fewer, or use app roles.",
            )


def _source_of(issuer: IssuerSettings, timeout_s: float) -> Source:
    if issuer.jwks_is_url:
        address = Address(issuer.jwks, issuer.jwks_ca_file, issuer.jwks_token_file)
        return UrlSource(address, timeout_s)
    return FileSource(Path(issuer.jwks))
