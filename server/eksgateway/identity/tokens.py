"""Authenticates a caller by the JWT in `authorization: Bearer` (RFC 8725).

A token is checked in this order: its form, its issuer by the exact `iss`, its signature by that issuer's
keys, its claims, and the clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from eksgateway.clock import Clock
from eksgateway.errors import CredentialsExpired, IdentityUnavailable, Unauthenticated
from eksgateway.identity.claims import TokenClaims, read_claims
from eksgateway.identity.invalid_credentials import invalid_credentials
from eksgateway.identity.issuer_keys import IssuerKeys
from eksgateway.identity.jwk_set import KeySet, VerificationKey, verify_signature
from eksgateway.identity.jwks_sources import FileSource, JwksSource
from eksgateway.identity.jwks_url import JwksEndpoint, UrlSource
from eksgateway.identity.jwt_parser import UnverifiedToken, parse_jwt, read_bearer_token
from eksgateway.identity.verified_tokens import VerifiedToken, VerifiedTokens
from eksgateway.logs import Log
from eksgateway.model import Caller
from eksgateway.settings import IssuerSettings, JwtSettings

log = Log(__name__)

VerifySignature = Callable[[UnverifiedToken, VerificationKey], bool]
CountGroups = Callable[[str, str, int], None]


@dataclass(frozen=True, slots=True)
class _Issuer:
    settings: IssuerSettings
    keys: IssuerKeys


class JwtIdentity:
    """Identity from tokens of the configured issuers.

    ``count_groups`` is called with an issuer's name, the reason why groups of a token were ignored, and their
    number.
    """

    def __init__(
        self,
        settings: JwtSettings,
        clock: Clock,
        *,
        verify_signature: VerifySignature = verify_signature,
        count_groups: CountGroups = lambda *_: None,
    ) -> None:
        self._issuers = {
            issuer.issuer: _Issuer(
                issuer, IssuerKeys(issuer.name, _source_of(issuer, settings.jwks_timeout_s), settings, clock)
            )
            for issuer in settings.issuers
        }
        self._leeway = timedelta(seconds=settings.leeway_s)
        self._verified = VerifiedTokens(settings.verified_tokens)
        self._clock = clock
        self._verify_signature = verify_signature
        self._count_groups = count_groups

    def start(self) -> None:
        """Fetch all keys and follow those in files. Without this only calls cause fetches."""
        for issuer in self._issuers.values():
            issuer.keys.start()

    def reload(self) -> None:
        """Fetch all keys again. Keys that their issuer has removed are no longer accepted."""
        for issuer in self._issuers.values():
            issuer.keys.reload()

    async def wait_for_keys(self, timeout: float) -> None:  # noqa: ASYNC109  no error when it passes
        """Return when the first fetches have ended, or after ``timeout`` seconds."""
        fetches = [asyncio.ensure_future(issuer.keys.wait_for_fetch()) for issuer in self._issuers.values()]
        _, pending = await asyncio.wait(fetches, timeout=timeout)
        for fetch in pending:
            fetch.cancel()

    async def check(self) -> None:
        """Raise IdentityUnavailable until each issuer has had keys once; the log has the cause."""
        missing = [issuer.settings.name for issuer in self._issuers.values() if not issuer.keys.has_had_keys]
        if missing:
            raise IdentityUnavailable(detail=f"no keys of {', '.join(missing)}")

    async def identify(
        self, authorization: Sequence[str | bytes], certificate: bytes | None = None
    ) -> Caller:
        text = read_bearer_token(authorization)
        remembered = await self._recall(text)
        verified = remembered or await self._verify(parse_jwt(text))
        caller = verified.claims.caller
        try:
            verified.claims.check_time(self._clock.now())
        except Unauthenticated as exc:
            exc.issuer = self._issuers[caller.issuer].settings.name
            if isinstance(exc, CredentialsExpired):
                self._verified.forget(text)
            raise
        if remembered is None:
            self._verified.remember(text, verified)
        return caller

    def recall_caller_id(
        self, authorization: Sequence[str | bytes], certificate: bytes | None = None
    ) -> str | None:
        if len(authorization) != 1:
            return None
        value = authorization[0]
        text = value.decode("latin-1") if isinstance(value, bytes) else value
        verified = self._verified.get(text.partition(" ")[2])
        if verified is None or not verified.claims.is_valid_at(self._clock.now()):
            return None
        return verified.claims.caller.id

    async def close(self) -> None:
        """Stop fetching."""
        for issuer in self._issuers.values():
            await issuer.keys.close()

    async def _recall(self, text: str) -> VerifiedToken | None:
        """The token if it was verified before, with the keys that its issuer has now."""
        verified = self._verified.get(text)
        if verified is None:
            return None
        if verified.keys is await self._issuers[verified.claims.caller.issuer].keys.get():
            return verified
        self._verified.forget(text)
        return None

    async def _verify(self, token: UnverifiedToken) -> VerifiedToken:
        iss = token.payload.get("iss")
        issuer = self._issuers.get(iss) if isinstance(iss, str) else None
        if issuer is None:
            raise invalid_credentials("iss", "The token's issuer is not known to this gateway.")
        try:
            keys = await self._find_signing_keys(token, issuer)
            claims = read_claims(token.payload, issuer.settings, self._leeway)
        except Unauthenticated as exc:
            exc.issuer = issuer.settings.name
            raise
        self._report_groups(claims, issuer.settings)
        return VerifiedToken(claims, keys)

    async def _find_signing_keys(self, token: UnverifiedToken, issuer: _Issuer) -> KeySet:
        """The key set with the key that signed the token.

        If none did, fetch the set again: the token may be signed with a newer key, even under a known `kid`.
        """
        if token.algorithm not in issuer.settings.algorithms:
            raise invalid_credentials("alg", "The token's `alg` is not accepted from its issuer.")
        keys = await issuer.keys.get()
        if await self._is_signed(token, keys):
            return keys
        newer = await issuer.keys.refresh()
        if newer is not keys and await self._is_signed(token, newer):
            return newer
        if newer.find_candidates(token):
            raise invalid_credentials("signature", "The token's signature does not verify.")
        raise invalid_credentials(
            "kid", "The token's issuer has no key that fits the token's `kid` and `alg`."
        )

    async def _is_signed(self, token: UnverifiedToken, keys: KeySet) -> bool:
        for number, key in enumerate(keys.find_candidates(token)):
            if number:
                await asyncio.sleep(0)  # one check takes up to half a millisecond
            if self._verify_signature(token, key):
                return True
        return False

    def _report_groups(self, claims: TokenClaims, issuer: IssuerSettings) -> None:
        """Log and count the groups that were ignored or omitted."""
        caller = claims.caller.id
        if claims.unusable_groups:
            self._count_groups(issuer.name, "unusable", claims.unusable_groups)
            log.warning(
                "identity.groups_dropped", issuer=issuer.name, caller=caller, dropped=claims.unusable_groups
            )
        if claims.has_overage:
            self._count_groups(issuer.name, "overage", 1)
            log.warning(
                "identity.groups_overage",
                issuer=issuer.name,
                caller=caller,
                note="The issuer omitted the groups from the token, because there are too many. Grants to"
                " groups do not apply to this caller. Assign fewer groups, or use app roles.",
            )


def _source_of(issuer: IssuerSettings, timeout_s: float) -> JwksSource:
    if issuer.jwks_is_url:
        endpoint = JwksEndpoint(issuer.jwks, issuer.jwks_ca_file, issuer.jwks_token_file)
        return UrlSource(endpoint, timeout_s)
    return FileSource(Path(issuer.jwks))
