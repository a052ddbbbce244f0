"""Keys over time: rotation, outage and floods, against a real HTTP server or a real file."""

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
from support.jwks_server import Answer, JwksServer
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
    """Credentials that outlive every test."""
    return ["Bearer " + idp.token(NOW, header, kid=kid, exp=int(NOW.timestamp()) + 100 * HOUR)]


def unknown(idp: Idp, number: int = 0) -> list[str]:
    return call(idp, "ec", {"kid": f"invented-{number}"})


async def test_first_calls_share_one_fetch(identity: JwtIdentity, corp: Idp, server: JwksServer) -> None:
    """A cold start under load asks the issuer once."""
    server.open.clear()
    calls = [asyncio.create_task(identity.identify(call(corp))) for _ in range(50)]
    await server.asked(1)
    server.open.set()
    assert {caller.id for caller in await asyncio.gather(*calls)} == {"jwt:corp:alice"}
    assert server.fetches == 1


async def test_a_caller_who_leaves_does_not_end_the_fetch_for_others(
    identity: JwtIdentity, corp: Idp, server: JwksServer
) -> None:
    """Whoever came first may give up."""
    server.open.clear()
    first = asyncio.create_task(identity.identify(call(corp)))
    second = asyncio.create_task(identity.identify(call(corp)))
    await server.asked(1)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    server.open.set()
    assert (await second).id == "jwt:corp:alice"
    assert server.fetches == 1


async def test_an_unknown_kid_finds_a_rotated_key(
    identity: JwtIdentity, corp: Idp, server: JwksServer, clock: FakeClock
) -> None:
    """A new key works without a restart, once the cool-down since the last fetch is over."""
    await identity.identify(call(corp))
    corp.keys["new"] = rsa_key("new")
    server.answer = Answer(corp.jwks())
    with pytest.raises(CredentialsInvalid):
        await identity.identify(call(corp, "new"))
    await clock.advance(COOLDOWN)
    assert (await identity.identify(call(corp, "new"))).id == "jwt:corp:alice"
    assert server.fetches == 2


async def test_a_flood_of_unknown_kids_is_one_fetch_a_cooldown(
    identity: JwtIdentity, corp: Idp, server: JwksServer, clock: FakeClock
) -> None:
    """Strangers cannot make the gateway flood the issuer, one by one or all at once."""
    await identity.identify(call(corp))
    for rounds in range(1, 4):
        await clock.advance(COOLDOWN)
        together = [identity.identify(unknown(corp, number)) for number in range(40)]
        results = await asyncio.gather(*together, return_exceptions=True)
        assert {type(result) for result in results} == {CredentialsInvalid}
        for number in range(40):
            with pytest.raises(CredentialsInvalid):
                await identity.identify(unknown(corp, number))
        assert server.fetches == 1 + rounds


async def test_a_key_replaced_under_its_kid_is_found(
    identity: JwtIdentity, corp: Idp, server: JwksServer, clock: FakeClock
) -> None:
    """Also one of another kind, after one fetch; tokens of the old key end with it."""
    old = call(corp)
    await identity.identify(old)
    for kid, key in (("rsa", rsa_key("replaced")), ("rsa", ec_key("replaced"))):
        corp.keys[kid] = key
        server.answer = Answer(corp.jwks())
        await clock.advance(COOLDOWN)
        fetches = server.fetches
        assert (await identity.identify(call(corp))).id == "jwt:corp:alice"
        assert server.fetches == fetches + 1
        with pytest.raises(CredentialsInvalid):
            await identity.identify(old)


async def test_a_key_replaced_without_a_kid_is_found(
    identity: JwtIdentity, corp: Idp, server: JwksServer, clock: FakeClock
) -> None:
    """An issuer that names no keys may replace them too."""

    def anonymous(key: PrivateKey) -> bytes:
        return jwks(jwk(key, None))

    server.answer = Answer(anonymous(corp.keys["rsa"]))
    await identity.identify(call(corp, header={"kid": ABSENT}))
    corp.keys["rsa"] = rsa_key("replaced")
    server.answer = Answer(anonymous(corp.keys["rsa"]))
    await clock.advance(COOLDOWN)
    assert (await identity.identify(call(corp, header={"kid": ABSENT}))).id == "jwt:corp:alice"


@pytest.mark.parametrize("kid", [None, "same"])
async def test_of_several_keys_the_one_that_signed_is_found(
    identity: JwtIdentity, corp: Idp, server: JwksServer, kid: str | None
) -> None:
    """Without a `kid`, or with one that they share; and a key of none of them is refused."""
    several = [jwk(rsa_key(label), kid) for label in ("one", "two", "three")]
    server.answer = Answer(jwks(jwk(ec_key("other"), kid), *several, jwk(rsa_key("enc"), kid, use="enc")))
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


async def test_a_flood_of_forged_tokens_is_one_fetch_a_cooldown_and_delays_nobody(
    identity: JwtIdentity, corp: Idp, server: JwksServer, clock: FakeClock
) -> None:
    """While the issuer is slow, known keys serve at once, and only so many forgeries wait for it."""
    await identity.identify(call(corp))
    good = call(corp, "ec")
    corp.keys["rsa"] = rsa_key("forger")
    forged = call(corp)
    await clock.advance(COOLDOWN)
    server.open.clear()
    flood = [asyncio.create_task(identity.identify(forged)) for _ in range(3 * MAX_WAITING)]
    await server.asked(2)
    assert (await identity.identify(good)).id == "jwt:corp:alice"
    await settle()
    assert sum(not task.done() for task in flood) == MAX_WAITING
    server.open.set()
    results = await asyncio.gather(*flood, return_exceptions=True)
    assert {type(result) for result in results} == {CredentialsInvalid}
    with pytest.raises(CredentialsInvalid):
        await identity.identify(forged)
    assert server.fetches == 2


async def test_an_outage_leaves_the_keys_until_their_maximum_age(
    identity: JwtIdentity, corp: Idp, server: JwksServer, clock: FakeClock
) -> None:
    """Known keys serve for the hour; then nobody is let in, remembered token or not; then it heals."""
    await identity.identify(call(corp))
    server.answer = Answer(status=503)
    for _ in range(119):
        await clock.advance(COOLDOWN)
        assert (await identity.identify(call(corp))).id == "jwt:corp:alice"
    with pytest.raises(CredentialsInvalid):
        await identity.identify(unknown(corp))
    await clock.advance(COOLDOWN)
    with pytest.raises(IdentityUnavailable) as refused:
        await identity.identify(call(corp))
    assert refused.value.retry_after is not None
    assert 0 < refused.value.retry_after <= COOLDOWN
    server.answer = Answer(corp.jwks())
    await clock.advance(refused.value.retry_after)
    assert (await identity.identify(call(corp))).id == "jwt:corp:alice"


async def test_an_outage_is_no_flood_either(
    identity: JwtIdentity, corp: Idp, server: JwksServer, clock: FakeClock
) -> None:
    """Without any keys the issuer is asked once a cool-down, however many call."""
    server.answer = Answer(status=500)
    for rounds in range(1, 4):
        for _ in range(20):
            with pytest.raises(IdentityUnavailable):
                await identity.identify(call(corp))
        assert server.fetches == rounds
        await clock.advance(COOLDOWN)


async def test_keys_are_renewed_behind_the_calls(
    identity: JwtIdentity, corp: Idp, server: JwksServer, clock: FakeClock
) -> None:
    """From half the maximum age on a fetch runs that nobody waits for, so calls never feel the hour."""
    await identity.identify(call(corp))
    await clock.advance(HOUR / 2)
    server.open.clear()
    await identity.identify(call(corp))
    await server.asked(2)
    await identity.identify(call(corp))
    server.open.set()
    await asyncio.gather(*(task for task in asyncio.all_tasks() if task.get_name() == "jwks corp"))
    server.answer = Answer(status=503)
    await clock.advance(HOUR * 0.75)
    assert (await identity.identify(call(corp))).id == "jwt:corp:alice"


async def test_a_withdrawn_key_ends_its_remembered_tokens(
    identity: JwtIdentity, corp: Idp, server: JwksServer, clock: FakeClock
) -> None:
    """A key that the issuer took back proves nothing from the next fetch on."""
    stolen, good = call(corp), call(corp, "ec")
    await identity.identify(stolen)
    del corp.keys["rsa"]
    server.answer = Answer(corp.jwks())
    await clock.advance(COOLDOWN)
    with pytest.raises(CredentialsInvalid):
        await identity.identify(unknown(corp))
    with pytest.raises(CredentialsInvalid):
        await identity.identify(stolen)
    assert (await identity.identify(good)).id == "jwt:corp:alice"


GOOD = Idp().jwks()
BROKEN: list[tuple[str, Answer]] = [
    ("huge", Answer(GOOD + b" " * MAX_BYTES)),
    ("redirect", Answer(status=302, headers={"Location": "/elsewhere"})),
    ("redirect with keys", Answer(GOOD, status=307, headers={"Location": "/elsewhere"})),
    ("not found", Answer(GOOD, status=404)),
    ("no content", Answer(status=204)),
    ("HTML", Answer(b"<html>")),
    ("no keys", Answer(b'{"keys":[]}')),
    ("another encoding", Answer(GOOD, headers={"Content-Encoding": "br"})),
    ("not gzip", Answer(GOOD, headers={"Content-Encoding": "gzip"})),
    ("gzip cut off", Answer(gzip.compress(GOOD)[:-9], headers={"Content-Encoding": "gzip"})),
    ("gzip of much", Answer(gzip.compress(GOOD + b" " * MAX_BYTES), headers={"Content-Encoding": "gzip"})),
    (
        "gzip of very much",
        Answer(gzip.compress(b" " * 50_000_000), headers={"Content-Encoding": "gzip"}),
    ),
]


@pytest.mark.parametrize("answer", [row[1] for row in BROKEN], ids=[row[0] for row in BROKEN])
async def test_an_answer_that_is_no_key_set_changes_nothing(
    identity: JwtIdentity, corp: Idp, server: JwksServer, clock: FakeClock, answer: Answer
) -> None:
    """At first there are no keys; later the old ones stay; a redirect is not followed."""
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
        await identity.identify(unknown(corp))
    assert (await identity.identify(call(corp))).id == "jwt:corp:alice"


def deflated(content: bytes, wbits: int) -> bytes:
    deflater = zlib.compressobj(wbits=wbits)
    return deflater.compress(content) + deflater.flush()


COMPRESSED: list[tuple[str, bytes]] = [
    ("gzip", gzip.compress(GOOD)),
    ("x-gzip", gzip.compress(GOOD)),
    ("GZIP", gzip.compress(GOOD)),
    ("deflate", deflated(GOOD, 15)),
    ("deflate", deflated(GOOD, -15)),
    ("identity", GOOD),
    ("", GOOD),
]


@pytest.mark.parametrize(
    ("encoding", "body"),
    COMPRESSED,
    ids=["gzip", "x-gzip", "GZIP", "deflate", "raw deflate", "identity", "empty"],
)
async def test_a_compressed_answer_is_taken(
    identity: JwtIdentity, corp: Idp, server: JwksServer, encoding: str, body: bytes
) -> None:
    """Some servers and proxies compress whatever is asked for."""
    server.answer = Answer(body, headers={"Content-Encoding": encoding})
    assert (await identity.identify(call(corp))).id == "jwt:corp:alice"


async def test_an_issuer_that_hangs_is_given_up(corp: Idp, server: JwksServer, clock: FakeClock) -> None:
    """The fetch has a time limit of its own, in real time."""
    server.open.clear()
    identity = JwtIdentity(JwtSettings(issuers=(corp.settings(server.url),), jwks_timeout_s=0.1), clock)
    try:
        with pytest.raises(IdentityUnavailable):
            await identity.identify(call(corp))
    finally:
        await identity.close()


async def test_nobody_listens(corp: Idp, clock: FakeClock) -> None:
    """A refused connection is an outage."""
    async with JwksServer.running(b"") as server:
        url = server.url
    identity = JwtIdentity(JwtSettings(issuers=(corp.settings(url),)), clock)
    with pytest.raises(IdentityUnavailable):
        await identity.identify(call(corp))
    await identity.close()


async def test_one_issuers_outage_is_not_the_others(
    corp: Idp, partner: Idp, server: JwksServer, tmp_path: Path, clock: FakeClock
) -> None:
    """Each issuer has keys, ages and cool-downs of its own."""
    server.answer = Answer(status=503)
    (tmp_path / "partner.json").write_bytes(partner.jwks())
    issuers = (corp.settings(server.url), partner.settings(tmp_path / "partner.json"))
    identity = JwtIdentity(JwtSettings(issuers=issuers), clock)
    with pytest.raises(IdentityUnavailable):
        await identity.identify(call(corp))
    assert (await identity.identify(call(partner))).id == "jwt:partner:alice"
    await identity.close()


async def test_closing_ends_a_fetch_under_way(identity: JwtIdentity, corp: Idp, server: JwksServer) -> None:
    """Nothing is left running, and who waits is told that there are no keys."""
    server.open.clear()
    waiting = asyncio.create_task(identity.identify(call(corp)))
    await server.asked(1)
    await identity.close()
    with pytest.raises(IdentityUnavailable):
        await waiting


async def test_a_file_is_read_again_for_an_unknown_kid_and_by_age(
    corp: Idp, tmp_path: Path, clock: FakeClock
) -> None:
    """A file of keys may be replaced under a running gateway, and may be missing for a while."""
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
