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
CountDropped = Callable[[str, str, int], None]


@dataclass(eq=False)
class JwtIdentity:
    """``count_groups`` gets an issuer's name, why groups of a token were ignored, and their number.
    ``count_claims`` gets an issuer's name, the policy's name of a claim, and the number of ignored values.
    """

    settings: JwtSettings
    clock: Clock
    verify_signature: VerifySignature = verify_signature
    count_groups: CountDropped = lambda *_: None
    count_claims: CountDropped = lambda *_: None

    def __post_init__(self) -> None:
        timeout_s = self.settings.jwks_timeout_s
        self._keys = {
            issuer.issuer: IssuerKeys(issuer, _source_of(issuer, timeout_s), self.settings, self.clock)
            for issuer in self.settings.issuers
        }
        self._leeway = timedelta(seconds=self.settings.leeway_s)
        self._verified = VerifiedTokens(self.settings.verified_tokens)

    def start(self) -> None:
        """Fetch all keys and follow those in files. Without this only calls cause fetches."""
        for keys in self._keys.values():
            keys.start()

    def reload(self) -> None:
        """Fetch all keys again. Keys that their issuer has removed are no longer accepted."""
        for keys in self._keys.values():
            keys.reload()

    async def wait_for_keys(self, timeout: float) -> None:  # noqa: ASYNC109  no error when it passes
        """Return when the first fetches have ended, or after ``timeout`` seconds."""
        fetches = [asyncio.ensure_future(keys.wait_for_fetch()) for keys in self._keys.values()]
        _, pending = await asyncio.wait(fetches, timeout=timeout)
        for fetch in pending:
            fetch.cancel()

    async def check(self) -> None:
        """Raise IdentityUnavailable until each issuer has had keys once; the log has the cause."""
        missing = [keys.issuer.name for keys in self._keys.values() if not keys.has_had_keys]
        if missing:
            raise IdentityUnavailable(detail=f"no keys of {', '.join(missing)}")

    async def identify(
        self, authorization: Sequence[str | bytes], certificate: bytes | None = None
    ) -> Caller:
        # A remembered value is found before its form is checked, which takes 4 µs.
        remembered = await self._recall(authorization)
        verified = remembered or await self._verify(parse_jwt(read_bearer_token(authorization)))
        caller = verified.claims.caller
        try:
            verified.claims.check_time(self.clock.now())
        except Unauthenticated as exc:
            exc.issuer = self._keys[caller.issuer].issuer.name
            if isinstance(exc, CredentialsExpired):
                self._verified.forget(authorization[0])
            raise
        if remembered is None:
            self._verified.remember(authorization[0], verified)
        return caller

    def recall_caller_id(
        self, authorization: Sequence[str | bytes], certificate: bytes | None = None
    ) -> str | None:
        verified = self._verified.get(authorization[0]) if len(authorization) == 1 else None
        if verified is None or not verified.claims.is_valid_at(self.clock.now()):
            return None
        return verified.claims.caller.id

    async def close(self) -> None:
        for keys in self._keys.values():
            await keys.close()

    async def _recall(self, authorization: Sequence[str | bytes]) -> VerifiedToken | None:
        """The token if it was verified with the keys that its issuer has now."""
        verified = self._verified.get(authorization[0]) if len(authorization) == 1 else None
        if verified is None:
            return None
        if verified.keys is await self._keys[verified.claims.caller.issuer].get():
            return verified
        self._verified.forget(authorization[0])
        return None

    async def _verify(self, token: UnverifiedToken) -> VerifiedToken:
        iss = token.payload.get("iss")
        issuer_keys = self._keys.get(iss) if isinstance(iss, str) else None
        if issuer_keys is None:
            raise invalid_credentials("iss", "The token's issuer is not known to this gateway.")
        try:
            keys = await self._find_signing_keys(token, issuer_keys)
            claims = read_claims(token.payload, issuer_keys.issuer, self._leeway)
        except Unauthenticated as exc:
            exc.issuer = issuer_keys.issuer.name
            raise
        self._report_dropped(claims, issuer_keys.issuer.name)
        return VerifiedToken(claims, keys)

    async def _find_signing_keys(self, token: UnverifiedToken, issuer_keys: IssuerKeys) -> KeySet:
        """If no key signed the token, fetch again: a newer one may, even under a known `kid`."""
        if token.algorithm not in issuer_keys.issuer.algorithms:
            raise invalid_credentials("alg", "The token's `alg` is not accepted from its issuer.")
        keys = await issuer_keys.get()
        if await self._is_signed(token, keys):
            return keys
        newer = await issuer_keys.refresh()
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
            if self.verify_signature(token, key):
                return True
        return False

    def _report_dropped(self, claims: TokenClaims, issuer: str) -> None:
        caller, dropped = claims.caller.id, claims.unusable_groups
        if dropped:
            self.count_groups(issuer, "unusable", dropped)
            log.warning("identity.groups_dropped", issuer=issuer, caller=caller, dropped=dropped)
        for claim, dropped in claims.unusable_claims:
            self.count_claims(issuer, claim, dropped)
            log.warning("identity.claims_dropped", issuer=issuer, caller=caller, claim=claim, dropped=dropped)
        if claims.has_overage:
            self.count_groups(issuer, "overage", 1)
            log.warning(
                "identity.groups_overage",
                issuer=issuer,
                caller=caller,
                note="The issuer omitted the groups from the token, because there are too many. Grants to"
                " groups do not apply to this caller. Assign fewer groups, or use app roles.",
            )


def _source_of(issuer: IssuerSettings, timeout_s: float) -> JwksSource:
    if issuer.jwks_is_url:
        endpoint = JwksEndpoint(issuer.jwks, issuer.jwks_ca_file, issuer.jwks_token_file)
        return UrlSource(endpoint, timeout_s)
    return FileSource(Path(issuer.jwks))
