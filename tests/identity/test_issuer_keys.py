"""Keys over time: rotation, outages and floods, with a real HTTP server or a real file."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from eksgateway.errors import CredentialsInvalid, IdentityUnavailable
from eksgateway.identity.issuer_keys import MAX_WAITING
from eksgateway.identity.jwks_sources import MAX_BYTES
from eksgateway.identity.tokens import JwtIdentity
from eksgateway.settings import JwtSettings
from support.clock import FakeClock, settle
from support.jwks_server import JwksAnswer, JwksServer
from support.tokens import ABSENT, Idp, PrivateKey, ec_key, jwk, jwks, rsa_key

NOW = FakeClock().now()
COOLDOWN = 30
HOUR = 3600


@pytest.fixture
async def server(corp: Idp) -> AsyncIterator[JwksServer]:
    async with JwksServer.running(corp.jwks()) as server:
        yield server


@pytest.fixture
async def identity(corp: Idp, server: JwksServer, clock: FakeClock) -> AsyncIterator[JwtIdentity]:
    settings = JwtSettings(issuers=(corp.settings(server.url),), jwks_timeout_s=5)
    identity = JwtIdentity(settings, clock)
    yield identity
    await identity.close()


def call(idp: Idp, kid: str = "rsa", header: dict[str, Any] | None = None) -> list[str]:
    """Credentials that stay valid during every test."""
    return ["Bearer " + idp.token(NOW, header, kid=kid, exp=int(NOW.timestamp()) + 100 * HOUR)]


def call_with_unknown_kid(idp: Idp, number: int = 0) -> list[str]:
    return call(idp, "ec", {"kid": f"invented-{number}"})


async def test_first_calls_share_one_fetch(identity: JwtIdentity, corp: Idp, server: JwksServer) -> None:
    """A cold start under load causes one fetch."""
    server.open.clear()
    calls = [asyncio.create_task(identity.identify(call(corp))) for _ in range(50)]
    await server.wait_for_requests(1)
    server.open.set()
    assert {caller.id for caller in await asyncio.gather(*calls)} == {"jwt:corp:alice"}
    assert server.fetches == 1


async def test_cancelled_call_does_not_cancel_the_fetch_for_others(
    identity: JwtIdentity, corp: Idp, server: JwksServer
) -> None:
    server.open.clear()
    first = asyncio.create_task(identity.identify(call(corp)))
    second = asyncio.create_task(identity.identify(call(corp)))
    await server.wait_for_requests(1)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    server.open.set()
    assert (await second).id == "jwt:corp:alice"
    assert server.fetches == 1


async def test_unknown_kid_fetches_a_rotated_key(
    identity: JwtIdentity, corp: Idp, server: JwksServer, clock: FakeClock
) -> None:
    """A new key works once the cool-down since the last fetch is over."""
    await identity.identify(call(corp))
    corp.keys["new"] = rsa_key("new")
    server.answer = JwksAnswer(corp.jwks())
    with pytest.raises(CredentialsInvalid):
        await identity.identify(call(corp, "new"))
    await clock.advance(COOLDOWN)
    assert (await identity.identify(call(corp, "new"))).id == "jwt:corp:alice"
    assert server.fetches == 2


async def test_flood_of_unknown_kids_causes_one_fetch_per_cooldown(
    identity: JwtIdentity, corp: Idp, server: JwksServer, clock: FakeClock
) -> None:
    """One after the other or all at once."""
    await identity.identify(call(corp))
    for rounds in range(1, 4):
        await clock.advance(COOLDOWN)
        together = [identity.identify(call_with_unknown_kid(corp, number)) for number in range(40)]
        results = await asyncio.gather(*together, return_exceptions=True)
        assert {type(result) for result in results} == {CredentialsInvalid}
        for number in range(40):
            with pytest.raises(CredentialsInvalid):
                await identity.identify(call_with_unknown_kid(corp, number))
        assert server.fetches == 1 + rounds


async def test_key_replaced_under_its_kid_is_fetched(
    identity: JwtIdentity, corp: Idp, server: JwksServer, clock: FakeClock
) -> None:
    """Even by a key of another kind. Tokens of the old key are refused from then on."""
    old = call(corp)
    await identity.identify(old)
    for kid, key in (("rsa", rsa_key("replaced")), ("rsa", ec_key("replaced"))):
        corp.keys[kid] = key
        server.answer = JwksAnswer(corp.jwks())
        await clock.advance(COOLDOWN)
        fetches = server.fetches
        assert (await identity.identify(call(corp))).id == "jwt:corp:alice"
        assert server.fetches == fetches + 1
        with pytest.raises(CredentialsInvalid):
            await identity.identify(old)


async def test_replaced_key_without_kid_is_fetched(
    identity: JwtIdentity, corp: Idp, server: JwksServer, clock: FakeClock
) -> None:

    def anonymous(key: PrivateKey) -> bytes:
        return jwks(jwk(key, None))

    server.answer = JwksAnswer(anonymous(corp.keys["rsa"]))
    await identity.identify(call(corp, header={"kid": ABSENT}))
    corp.keys["rsa"] = rsa_key("replaced")
    server.answer = JwksAnswer(anonymous(corp.keys["rsa"]))
    await clock.advance(COOLDOWN)
    assert (await identity.identify(call(corp, header={"kid": ABSENT}))).id == "jwt:corp:alice"


@pytest.mark.parametrize("kid", [None, "same"])
async def test_several_keys_with_the_same_kid_are_tried(
    identity: JwtIdentity, corp: Idp, server: JwksServer, kid: str | None
) -> None:
    """Also without a `kid`. A key of none of them is refused."""
    several = [jwk(rsa_key(label), kid) for label in ("one", "two", "three")]
    server.answer = JwksAnswer(jwks(jwk(ec_key("other"), kid), *several, jwk(rsa_key("enc"), kid, use="enc")))
    header = {"kid": kid or ABSENT}
    for label in ("one", "two", "three"):
        corp.keys["rsa"] = rsa_key(label)
        assert (await identity.identify(call(corp, header=header))).id == "jwt:corp:alice"
    for label in ("four", "enc"):
        corp.keys["rsa"] = rsa_key(label)
        with pytest.raises(CredentialsInvalid) as refused:
            await identity.identify(call(corp, header=header))
        assert refused.value.metadata == {"check": "signature"}
    assert server.fetches == 1


async def test_flood_of_forged_tokens_causes_one_fetch_and_delays_no_caller(
    identity: JwtIdentity, corp: Idp, server: JwksServer, clock: FakeClock
) -> None:
    """While the issuer is slow, known keys are used at once, and a bounded number of forgeries waits."""
    await identity.identify(call(corp))
    good = call(corp, "ec")
    corp.keys["rsa"] = rsa_key("forger")
    forged = call(corp)
    await clock.advance(COOLDOWN)
    server.open.clear()
    flood = [asyncio.create_task(identity.identify(forged)) for _ in range(3 * MAX_WAITING)]
    await server.wait_for_requests(2)
    assert (await identity.identify(good)).id == "jwt:corp:alice"
    await settle()
    assert sum(not task.done() for task in flood) == MAX_WAITING
    server.open.set()
    results = await asyncio.gather(*flood, return_exceptions=True)
    assert {type(result) for result in results} == {CredentialsInvalid}
    with pytest.raises(CredentialsInvalid):
        await identity.identify(forged)
    assert server.fetches == 2


async def test_outage_keeps_keys_until_their_maximum_age(
    identity: JwtIdentity, corp: Idp, server: JwksServer, clock: FakeClock
) -> None:
    """Then calls fail with IdentityUnavailable, even with a remembered token, until a fetch succeeds."""
    await identity.identify(call(corp))
    server.answer = JwksAnswer(status=503)
    for _ in range(119):
        await clock.advance(COOLDOWN)
        assert (await identity.identify(call(corp))).id == "jwt:corp:alice"
    with pytest.raises(CredentialsInvalid):
        await identity.identify(call_with_unknown_kid(corp))
    await clock.advance(COOLDOWN)
    with pytest.raises(IdentityUnavailable) as refused:
        await identity.identify(call(corp))
    assert refused.value.retry_after is not None
    assert 0 < refused.value.retry_after <= COOLDOWN
    server.answer = JwksAnswer(corp.jwks())
    await clock.advance(refused.value.retry_after)
    assert (await identity.identify(call(corp))).id == "jwt:corp:alice"


async def test_outage_causes_one_fetch_per_cooldown(
    identity: JwtIdentity, corp: Idp, server: JwksServer, clock: FakeClock
) -> None:
    """With no keys at all."""
    server.answer = JwksAnswer(status=500)
    for rounds in range(1, 4):
        for _ in range(20):
            with pytest.raises(IdentityUnavailable):
                await identity.identify(call(corp))
        assert server.fetches == rounds
        await clock.advance(COOLDOWN)


async def test_keys_are_renewed_in_the_background(
    identity: JwtIdentity, corp: Idp, server: JwksServer, clock: FakeClock
) -> None:
    """From half the maximum age on, no call waits for the fetch."""
    await identity.identify(call(corp))
    await clock.advance(HOUR / 2)
    server.open.clear()
    await identity.identify(call(corp))
    await server.wait_for_requests(2)
    await identity.identify(call(corp))
    server.open.set()
    await asyncio.gather(*(task for task in asyncio.all_tasks() if task.get_name() == "jwks corp"))
    server.answer = JwksAnswer(status=503)
    await clock.advance(HOUR * 0.75)
    assert (await identity.identify(call(corp))).id == "jwt:corp:alice"


async def test_removed_key_invalidates_its_remembered_tokens(
    identity: JwtIdentity, corp: Idp, server: JwksServer, clock: FakeClock
) -> None:
    """From the next fetch on."""
    stolen, good = call(corp), call(corp, "ec")
    await identity.identify(stolen)
    del corp.keys["rsa"]
    server.answer = JwksAnswer(corp.jwks())
    await clock.advance(COOLDOWN)
    with pytest.raises(CredentialsInvalid):
        await identity.identify(call_with_unknown_kid(corp))
    with pytest.raises(CredentialsInvalid):
        await identity.identify(stolen)
    assert (await identity.identify(good)).id == "jwt:corp:alice"


GOOD = Idp().jwks()
BROKEN: list[tuple[str, JwksAnswer]] = [
    ("huge", JwksAnswer(GOOD + b" " * MAX_BYTES)),
    ("redirect", JwksAnswer(status=302, headers={"Location": "/elsewhere"})),
    ("redirect with keys", JwksAnswer(GOOD, status=307, headers={"Location": "/elsewhere"})),
    ("not found", JwksAnswer(GOOD, status=404)),
    ("no content", JwksAnswer(status=204)),
    ("HTML", JwksAnswer(b"<html>")),
    ("no keys", JwksAnswer(b'{"keys":[]}')),
    ("another encoding", JwksAnswer(GOOD, headers={"Content-Encoding": "br"})),
    ("not gzip", JwksAnswer(GOOD, headers={"Content-Encoding": "gzip"})),
    ("gzip cut off", JwksAnswer(gzip.compress(GOOD)[:-9], headers={"Content-Encoding": "gzip"})),
    (
        "gzip of much",
        JwksAnswer(gzip.compress(GOOD + b" " * MAX_BYTES), headers={"Content-Encoding": "gzip"}),
    ),
    (
        "gzip of very much",
        JwksAnswer(gzip.compress(b" " * 50_000_000), headers={"Content-Encoding": "gzip"}),
    ),
]


@pytest.mark.parametrize("answer", [row[1] for row in BROKEN], ids=[row[0] for row in BROKEN])
async def test_invalid_response_changes_no_keys(
    identity: JwtIdentity, corp: Idp, server: JwksServer, clock: FakeClock, answer: JwksAnswer
) -> None:
    """At first there are no keys; later the old ones stay. Redirects are not followed."""
    good, server.answer = server.answer, answer
    with pytest.raises(IdentityUnavailable):
        await identity.identify(call(corp))
    assert server.fetches == 1
    server.answer = good
    await clock.advance(COOLDOWN)
    await identity.identify(call(corp))
    server.answer = answer
    await clock.advance(COOLDOWN)
    with pytest.raises(CredentialsInvalid):
        await identity.identify(call_with_unknown_kid(corp))
    assert (await identity.identify(call(corp))).id == "jwt:corp:alice"


def deflate(content: bytes, wbits: int) -> bytes:
    deflater = zlib.compressobj(wbits=wbits)
    return deflater.compress(content) + deflater.flush()


COMPRESSED: list[tuple[str, bytes]] = [
    ("gzip", gzip.compress(GOOD)),
    ("x-gzip", gzip.compress(GOOD)),
    ("GZIP", gzip.compress(GOOD)),
    ("deflate", deflate(GOOD, 15)),
    ("deflate", deflate(GOOD, -15)),
    ("identity", GOOD),
    ("", GOOD),
]


@pytest.mark.parametrize(
    ("encoding", "body"),
    COMPRESSED,
    ids=["gzip", "x-gzip", "GZIP", "deflate", "raw deflate", "identity", "empty"],
)
async def test_compressed_responses_are_accepted(
    identity: JwtIdentity, corp: Idp, server: JwksServer, encoding: str, body: bytes
) -> None:
    """Some servers and proxies compress regardless of Accept-Encoding."""
    server.answer = JwksAnswer(body, headers={"Content-Encoding": encoding})
    assert (await identity.identify(call(corp))).id == "jwt:corp:alice"


async def test_fetch_from_a_hanging_issuer_times_out(corp: Idp, server: JwksServer, clock: FakeClock) -> None:
    """The time limit is in real time."""
    server.open.clear()
    identity = JwtIdentity(JwtSettings(issuers=(corp.settings(server.url),), jwks_timeout_s=0.1), clock)
    try:
        with pytest.raises(IdentityUnavailable):
            await identity.identify(call(corp))
    finally:
        await identity.close()


async def test_refused_connection_is_an_outage(corp: Idp, clock: FakeClock) -> None:
    async with JwksServer.running(b"") as server:
        url = server.url
    identity = JwtIdentity(JwtSettings(issuers=(corp.settings(url),)), clock)
    with pytest.raises(IdentityUnavailable):
        await identity.identify(call(corp))
    await identity.close()


async def test_outage_of_one_issuer_does_not_affect_others(
    corp: Idp, partner: Idp, server: JwksServer, tmp_path: Path, clock: FakeClock
) -> None:
    server.answer = JwksAnswer(status=503)
    (tmp_path / "partner.json").write_bytes(partner.jwks())
    issuers = (corp.settings(server.url), partner.settings(tmp_path / "partner.json"))
    identity = JwtIdentity(JwtSettings(issuers=issuers), clock)
    with pytest.raises(IdentityUnavailable):
        await identity.identify(call(corp))
    assert (await identity.identify(call(partner))).id == "jwt:partner:alice"
    await identity.close()


async def test_closing_cancels_a_running_fetch(identity: JwtIdentity, corp: Idp, server: JwksServer) -> None:
    """The waiting call fails with IdentityUnavailable."""
    server.open.clear()
    waiting = asyncio.create_task(identity.identify(call(corp)))
    await server.wait_for_requests(1)
    await identity.close()
    with pytest.raises(IdentityUnavailable):
        await waiting


async def test_file_is_read_again_for_an_unknown_kid_and_by_age(
    corp: Idp, tmp_path: Path, clock: FakeClock
) -> None:
    """A file may be replaced, or missing for a while."""
    path = tmp_path / "keys.json"
    identity = JwtIdentity(JwtSettings(issuers=(corp.settings(path),)), clock)
    with pytest.raises(IdentityUnavailable):
        await identity.identify(call(corp))
    path.write_bytes(corp.jwks())
    await clock.advance(COOLDOWN)
    await identity.identify(call(corp))
    corp.keys["new"] = rsa_key("new")
    path.write_bytes(corp.jwks())
    await clock.advance(COOLDOWN)
    await identity.identify(call(corp, "new"))
    path.write_bytes(b" " * (MAX_BYTES + 1))
    await clock.advance(HOUR)
    with pytest.raises(IdentityUnavailable):
        await identity.identify(call(corp))
    await identity.close()
