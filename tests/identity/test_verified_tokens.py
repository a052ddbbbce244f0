"""The memory of verified tokens: what it saves, what it must not, and how much it may hold."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from eksgateway.errors import CredentialsExpired, CredentialsInvalid
from eksgateway.identity.claims import read_claims
from eksgateway.identity.jwk_set import KeySet, VerificationKey, verify_signature
from eksgateway.identity.jwt_parser import UnverifiedToken
from eksgateway.identity.tokens import JwtIdentity
from eksgateway.identity.verified_tokens import GROUPS_PER_TOKEN, VerifiedToken, VerifiedTokens
from eksgateway.settings import JwtSettings
from support.clock import FakeClock
from support.tokens import Idp, rsa_key

NOW = FakeClock().now()


class CountingCheck:
    """The real check of a signature, counted."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, token: UnverifiedToken, key: VerificationKey) -> bool:
        self.count += 1
        return verify_signature(token, key)


@pytest.fixture
def check() -> CountingCheck:
    return CountingCheck()


@pytest.fixture
def keys_file(corp: Idp, tmp_path: Path) -> Path:
    path = tmp_path / "keys.json"
    replace(path, corp)
    return path


def replace(path: Path, idp: Idp) -> None:
    path.write_bytes(idp.jwks())


@pytest.fixture
async def identity(
    corp: Idp, keys_file: Path, clock: FakeClock, check: CountingCheck
) -> AsyncIterator[JwtIdentity]:
    settings = JwtSettings(issuers=(corp.settings(keys_file),), verified_tokens=2)
    identity = JwtIdentity(settings, clock, verify_signature=check)
    yield identity
    await identity.close()


def call(idp: Idp, subject: str = "alice", lifetime: int = 36_000, **header: str) -> list[str]:
    return ["Bearer " + idp.token(NOW, dict(header), sub=subject, exp=int(NOW.timestamp()) + lifetime)]


async def test_a_remembered_token_costs_no_signature_check(
    identity: JwtIdentity, corp: Idp, check: CountingCheck
) -> None:
    """The same token again gives the same caller for the price of a hash."""
    callers = [await identity.identify(call(corp)) for _ in range(5)]
    assert len(set(callers)) == 1
    assert check.count == 1


async def test_a_refused_token_is_not_remembered(
    identity: JwtIdentity, corp: Idp, check: CountingCheck
) -> None:
    """Strangers cannot push good tokens out of the memory."""
    await identity.identify(call(corp))
    for number in range(5):
        forged = call(corp, f"stranger-{number}")[0]
        with pytest.raises(CredentialsInvalid):
            await identity.identify([forged[:-20] + "A" * 20])
        with pytest.raises(CredentialsExpired):
            await identity.identify(call(corp, f"late-{number}", lifetime=-60))
    count = check.count
    await identity.identify(call(corp))
    assert check.count == count


async def test_a_token_differing_in_one_character_is_another(identity: JwtIdentity, corp: Idp) -> None:
    """Being like a remembered token is worth nothing."""
    good = call(corp)[0]
    await identity.identify([good])
    for place in range(len("Bearer "), len(good)):
        other = good[:place] + ("A" if good[place] != "A" else "B") + good[place + 1 :]
        with pytest.raises(CredentialsInvalid):
            await identity.identify([other])


async def test_the_least_used_token_is_forgotten_first(
    identity: JwtIdentity, corp: Idp, check: CountingCheck
) -> None:
    """With room for two, the third takes the place of the one not used for longest."""
    for subject in ("a", "b", "a", "c", "a"):
        await identity.identify(call(corp, subject))
    assert check.count == 3
    await identity.identify(call(corp, "b"))
    assert check.count == 4


async def test_a_key_change_is_a_new_check(
    identity: JwtIdentity, corp: Idp, keys_file: Path, clock: FakeClock, check: CountingCheck
) -> None:
    """Nothing proved with other keys stands; keys fetched again without a change prove on."""
    await identity.identify(call(corp))
    await clock.advance(3600)
    await identity.identify(call(corp))
    after_renewal = check.count
    corp.keys["new"] = rsa_key("new")
    replace(keys_file, corp)
    await clock.advance(30)
    await identity.identify(["Bearer " + corp.token(NOW, kid="new", exp=int(NOW.timestamp()) + 36_000)])
    await identity.identify(call(corp))
    assert after_renewal == 1
    assert check.count == 3


def test_the_memory_is_bounded(corp: Idp) -> None:
    """It never holds more than its capacity."""
    issuer = corp.settings("unused")
    proof = VerifiedToken(read_claims(corp.claims(NOW), issuer, NOW - NOW), KeySet(()))
    memory = VerifiedTokens(100)
    for number in range(1000):
        memory.remember(str(number), proof)
        assert memory.get(str(number)) is proof
    assert len(memory) == 100
    memory.forget("999")
    assert len(memory) == 99
    assert memory.get("999") is None


def test_the_groups_that_are_remembered_are_bounded(corp: Idp) -> None:
    """Ten thousand tokens with hundreds of groups each would be half a gigabyte."""
    groups = [f"group-{number}" for number in range(10 * GROUPS_PER_TOKEN)]
    issuer = corp.settings("unused")
    proof = VerifiedToken(read_claims(corp.claims(NOW, groups=groups), issuer, NOW - NOW), KeySet(()))
    memory = VerifiedTokens(100)
    for number in range(50):
        for _ in range(2):
            memory.remember(str(number), proof)
        assert memory.get(str(number)) is proof
    assert len(memory) == 10
    for number in range(50):
        memory.forget(str(number))
    small = VerifiedToken(read_claims(corp.claims(NOW), issuer, NOW - NOW), KeySet(()))
    for number in range(200):
        memory.remember(str(number), small)
    assert len(memory) == 100
