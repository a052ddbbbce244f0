"""The throw-away issuer, as the gateway's own identity sees it."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from eksgateway.errors import CredentialsExpired, CredentialsInvalid
from eksgateway.identity.tokens import JwtIdentity
from eksgateway.model import Caller
from eksgateway.sandbox.issuer import ThrowawayIssuer
from eksgateway.settings import JwtSettings
from support.clock import FakeClock


async def identify(issuer: ThrowawayIssuer, jwks: Path, token: str, clock: FakeClock) -> Caller:
    identity = JwtIdentity(JwtSettings(issuers=(issuer.settings(jwks),)), clock)
    try:
        return await identity.identify([f"Bearer {token}"])
    finally:
        await identity.close()


async def test_its_tokens_are_taken_by_a_gateway_with_its_settings(tmp_path: Path) -> None:
    """Name, groups and lifetime arrive as they were given."""
    clock, issuer, jwks = FakeClock(), ThrowawayIssuer(), tmp_path / "jwks.json"
    issuer.write_jwks(jwks)
    token = issuer.token("oncall", ["platform"], now=clock.now())
    caller = await identify(issuer, jwks, token, clock)
    assert (caller.id, caller.groups) == ("jwt:sandbox:oncall", ("sandbox:platform",))
    await clock.advance(timedelta(hours=12, seconds=59).total_seconds())
    await identify(issuer, jwks, token, clock)
    await clock.advance(1)
    with pytest.raises(CredentialsExpired):
        await identify(issuer, jwks, token, clock)


async def test_claims_win_over_what_it_sets(tmp_path: Path) -> None:
    """So a test can mint a token for somebody else's audience."""
    clock, issuer, jwks = FakeClock(), ThrowawayIssuer(), tmp_path / "jwks.json"
    issuer.write_jwks(jwks)
    with pytest.raises(CredentialsInvalid, match="audience"):
        await identify(issuer, jwks, issuer.token("oncall", now=clock.now(), aud="billing"), clock)


async def test_two_issuers_do_not_know_each_other(tmp_path: Path) -> None:
    """Each start makes a key of its own."""
    clock, issuer, jwks = FakeClock(), ThrowawayIssuer(), tmp_path / "jwks.json"
    issuer.write_jwks(jwks)
    with pytest.raises(CredentialsInvalid):
        await identify(issuer, jwks, ThrowawayIssuer().token("oncall", now=clock.now()), clock)


def test_its_key_set_holds_nothing_secret(tmp_path: Path) -> None:
    """The private key is in no file."""
    jwks = tmp_path / "jwks.json"
    ThrowawayIssuer().write_jwks(jwks)
    (key,) = json.loads(jwks.read_text())["keys"]
    assert set(key) == {"kty", "crv", "x", "y", "kid", "use", "alg"}
    assert list(tmp_path.iterdir()) == [jwks]
