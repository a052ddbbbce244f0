"""The throw-away issuer, as the gateway's own identity sees it."""

from __future__ import annotations

import json
import stat
from datetime import timedelta
from pathlib import Path

import pytest

from eksgateway.cli.issuer import ThrowawayIssuer
from eksgateway.errors import CredentialsExpired, CredentialsInvalid
from eksgateway.identity.tokens import JwtIdentity
from eksgateway.model import Caller
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


async def test_a_saved_issuer_goes_on_minting_what_its_key_set_proves(tmp_path: Path) -> None:
    """A restart keeps the keys: the gateway needs no new key set, and old tokens stay good."""
    clock, first, jwks = FakeClock(), ThrowawayIssuer(name="demo"), tmp_path / "jwks.json"
    first.write_jwks(jwks)
    first.save(tmp_path / "issuer.pem")
    second = ThrowawayIssuer.load(tmp_path / "issuer.pem", name="demo")
    for issuer in (first, second):
        caller = await identify(second, jwks, issuer.token("oncall", now=clock.now()), clock)
        assert caller.id == "jwt:demo:oncall"


async def test_two_issuers_do_not_know_each_other(tmp_path: Path) -> None:
    """Each start makes a key of its own."""
    clock, issuer, jwks = FakeClock(), ThrowawayIssuer(), tmp_path / "jwks.json"
    issuer.write_jwks(jwks)
    with pytest.raises(CredentialsInvalid):
        await identify(issuer, jwks, ThrowawayIssuer().token("oncall", now=clock.now()), clock)


def test_only_its_owner_can_read_the_private_key(tmp_path: Path) -> None:
    """Even where a readable file of that name was before; and the key set holds nothing secret."""
    issuer, path, jwks = ThrowawayIssuer(), tmp_path / "issuer.pem", tmp_path / "jwks.json"
    path.write_text("older")
    path.chmod(0o644)
    issuer.save(path)
    issuer.write_jwks(jwks)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "PRIVATE" in path.read_text()
    (key,) = json.loads(jwks.read_text())["keys"]
    assert set(key) == {"kty", "crv", "x", "y", "kid", "use", "alg"}
    assert sorted(tmp_path.iterdir()) == [path, jwks]
