"""The throw-away issuer, with the gateway's own verification."""

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


async def test_its_settings_accept_its_tokens(tmp_path: Path) -> None:
    """With the given subject, groups and lifetime."""
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


async def test_claims_replace_its_own(tmp_path: Path) -> None:
    """For example the audience."""
    clock, issuer, jwks = FakeClock(), ThrowawayIssuer(), tmp_path / "jwks.json"
    issuer.write_jwks(jwks)
    with pytest.raises(CredentialsInvalid, match="audience"):
        await identify(issuer, jwks, issuer.token("oncall", now=clock.now(), aud="billing"), clock)


async def test_an_issuer_refuses_another_issuers_tokens(tmp_path: Path) -> None:
    """Each issuer has its own key."""
    clock, issuer, jwks = FakeClock(), ThrowawayIssuer(), tmp_path / "jwks.json"
    issuer.write_jwks(jwks)
    with pytest.raises(CredentialsInvalid):
        await identify(issuer, jwks, ThrowawayIssuer().token("oncall", now=clock.now()), clock)


def test_its_key_set_has_no_private_key(tmp_path: Path) -> None:
    """It is in no file."""
    jwks = tmp_path / "jwks.json"
    ThrowawayIssuer().write_jwks(jwks)
    (key,) = json.loads(jwks.read_text())["keys"]
    assert set(key) == {"kty", "crv", "x", "y", "kid", "use", "alg"}
    assert list(tmp_path.iterdir()) == [jwks]
