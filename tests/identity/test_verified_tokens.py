"""The cache of verified tokens: its use, its invalidation and its bounds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

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


class CountingVerifier:
    """Verifies signatures and counts them."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, token: UnverifiedToken, key: VerificationKey) -> bool:
        self.count += 1
        return verify_signature(token, key)


@pytest.fixture
def verifier() -> CountingVerifier:
    return CountingVerifier()


@pytest.fixture
def keys_file(corp: Idp, tmp_path: Path) -> Path:
    path = tmp_path / "keys.json"
    replace(path, corp)
    return path


def replace(path: Path, idp: Idp) -> None:
    path.write_bytes(idp.jwks())


@pytest.fixture
async def identity(
    corp: Idp, keys_file: Path, clock: FakeClock, verifier: CountingVerifier
) -> AsyncIterator[JwtIdentity]:
    settings = JwtSettings(issuers=(corp.settings(keys_file),), verified_tokens=2)
    identity = JwtIdentity(settings, clock, verify_signature=verifier)
    yield identity
    await identity.close()


def call(idp: Idp, subject: str = "alice", lifetime: int = 36_000, **header: str) -> list[str]:
    return ["Bearer " + idp.token(NOW, dict(header), sub=subject, exp=int(NOW.timestamp()) + lifetime)]


async def test_remembered_token_is_not_verified_again(
    identity: JwtIdentity, corp: Idp, verifier: CountingVerifier
) -> None:
    callers = [await identity.identify(call(corp)) for _ in range(5)]
    assert len(set(callers)) == 1
    assert verifier.count == 1


async def test_refused_tokens_are_not_remembered(
    identity: JwtIdentity, corp: Idp, verifier: CountingVerifier
) -> None:
    """Forged tokens cannot evict valid ones."""
    await identity.identify(call(corp))
    for number in range(5):
        forged = call(corp, f"stranger-{number}")[0]
        with pytest.raises(CredentialsInvalid):
            await identity.identify([forged[:-20] + "A" * 20])
        with pytest.raises(CredentialsExpired):
            await identity.identify(call(corp, f"late-{number}", lifetime=-60))
    count = verifier.count
    await identity.identify(call(corp))
    assert verifier.count == count


async def test_token_that_differs_in_one_character_is_refused(identity: JwtIdentity, corp: Idp) -> None:
    good = call(corp)[0]
    await identity.identify([good])
    for index in range(len("Bearer "), len(good)):
        other = good[:index] + ("A" if good[index] != "A" else "B") + good[index + 1 :]
        with pytest.raises(CredentialsInvalid):
            await identity.identify([other])


async def test_least_recently_used_token_is_evicted_first(
    identity: JwtIdentity, corp: Idp, verifier: CountingVerifier
) -> None:
    for subject in ("a", "b", "a", "c", "a"):
        await identity.identify(call(corp, subject))
    assert verifier.count == 3
    await identity.identify(call(corp, "b"))
    assert verifier.count == 4


async def test_changed_keys_invalidate_remembered_tokens(
    identity: JwtIdentity, corp: Idp, keys_file: Path, clock: FakeClock, verifier: CountingVerifier
) -> None:
    """Keys that were fetched again without a change do not."""
    await identity.identify(call(corp))
    await clock.advance(3600)
    await identity.identify(call(corp))
    after_renewal = verifier.count
    corp.keys["new"] = rsa_key("new")
    replace(keys_file, corp)
    await clock.advance(30)
    await identity.identify(["Bearer " + corp.token(NOW, kid="new", exp=int(NOW.timestamp()) + 36_000)])
    await identity.identify(call(corp))
    assert after_renewal == 1
    assert verifier.count == 3


def test_number_of_remembered_tokens_is_bounded(corp: Idp) -> None:
    issuer = corp.settings("unused")
    verified = VerifiedToken(read_claims(corp.claims(NOW), issuer, NOW - NOW), KeySet(()))
    memory = VerifiedTokens(100)
    for number in range(1000):
        memory.remember(str(number), verified)
        assert memory.get(str(number)) is verified
    assert len(memory) == 100
    memory.forget("999")
    assert len(memory) == 99
    assert memory.get("999") is None


LARGE: dict[str, dict[str, Any]] = {
    "groups": {"groups": [f"group-{number}" for number in range(10 * GROUPS_PER_TOKEN)]},
    "claims": {each: [f"{each}{n}".ljust(110 + 100 * (n % 2)) for n in range(20)] for each in "abcde"},
    "long claims": {each: [f"{each}{number}".ljust(950) for number in range(5)] for each in "abcde"},
}


@pytest.mark.parametrize("large", LARGE.values(), ids=LARGE)
def test_number_of_remembered_groups_and_claims_is_bounded(corp: Idp, large: dict[str, Any]) -> None:
    """Ten thousand tokens with hundreds of groups each would take half a gigabyte."""
    issuer = corp.settings("unused", claims={each: each for each in "abcde"})
    verified = VerifiedToken(read_claims(corp.claims(NOW, **large), issuer, NOW - NOW), KeySet(()))
    memory = VerifiedTokens(100)
    for number in range(50):
        for _ in range(2):
            memory.remember(str(number), verified)
        assert memory.get(str(number)) is verified
    assert len(memory) == 10
    for number in range(50):
        memory.forget(str(number))
    small = VerifiedToken(read_claims(corp.claims(NOW), issuer, NOW - NOW), KeySet(()))
    for number in range(200):
        memory.remember(str(number), small)
    assert len(memory) == 100
