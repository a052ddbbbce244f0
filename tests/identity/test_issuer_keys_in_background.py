"""Keys without calls: got at the start, followed in files, got again at a reload."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from eksgateway.errors import CredentialsInvalid, IdentityUnavailable
from eksgateway.file_reader import HUNG
from eksgateway.identity.issuer_keys import FOLLOW_S
from eksgateway.identity.tokens import JwtIdentity
from eksgateway.settings import JwtSettings
from support.authority import replace
from support.clock import FakeClock
from support.hanging import hanging
from support.jwks_server import Answer, JwksServer
from support.logs import capture_logs
from support.tokens import Idp, rsa_key

NOW = FakeClock().now()
EMPTY = b'{"keys":[]}'


class Followed:
    """A started identity that trusts one issuer, and the place of the issuer's keys."""

    def __init__(self, corp: Idp, place: Path | str, clock: FakeClock) -> None:
        self.corp = corp
        self.clock = clock
        self.identity = JwtIdentity(JwtSettings(issuers=(corp.settings(place),)), clock)

    async def start(self) -> None:
        self.identity.start()
        await self.identity.wait_for_keys(10)
        await self.resting()

    async def resting(self) -> None:
        """Wait until what runs sleeps by the clock: reads are on threads, and answers on sockets."""
        async with asyncio.timeout(20):
            while not self.clock.sleepers:  # noqa: ASYNC110
                await asyncio.sleep(0.002)

    async def look(self, times: int = 1) -> None:
        for _ in range(times):
            await self.clock.advance(FOLLOW_S)
            await self.resting()

    async def knows(self, kid: str) -> bool:
        """Whether a token signed with this key is taken."""
        token = self.corp.token(NOW, kid=kid, exp=int(NOW.timestamp()) + 360_000)
        try:
            await self.identity.identify([f"Bearer {token}"])
        except CredentialsInvalid:
            return False
        return True

    async def ready(self) -> bool:
        try:
            await self.identity.check()
        except IdentityUnavailable:
            return False
        return True


@pytest.fixture
def logged() -> Iterator[list[dict[str, Any]]]:
    with capture_logs() as lines:
        yield lines


@pytest.fixture
async def server(corp: Idp) -> AsyncIterator[JwksServer]:
    async with JwksServer.running(corp.jwks()) as server:
        yield server


@pytest.fixture
async def file(tmp_path: Path, corp: Idp) -> Path:
    file = tmp_path / "keys.json"
    file.write_bytes(corp.jwks())
    return file


@pytest.fixture
async def followed(corp: Idp, file: Path, clock: FakeClock) -> AsyncIterator[Followed]:
    followed = Followed(corp, file, clock)
    await followed.start()
    yield followed
    await followed.identity.close()


@pytest.fixture
async def fetched(corp: Idp, server: JwksServer, clock: FakeClock) -> AsyncIterator[Followed]:
    fetched = Followed(corp, server.url, clock)
    yield fetched
    await fetched.identity.close()


def write(file: Path, content: bytes | None) -> None:
    """In place; None removes the file."""
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)


def causes(logged: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(line["issuer"], line["cause"]) for line in logged if line["event"] == "identity.jwks_failed"]


async def test_a_key_removed_from_a_file_ends_with_its_remembered_tokens(
    followed: Followed, corp: Idp, file: Path
) -> None:
    """Within two looks, without a call that lacks anything; the other keys go on."""
    assert await followed.knows("rsa")
    assert await followed.knows("ec")
    removed = corp.keys["rsa"]
    del corp.keys["rsa"]
    replace(file, corp.jwks())
    await followed.look(2)
    corp.keys["rsa"] = removed
    assert not await followed.knows("rsa")
    assert await followed.knows("ec")


async def test_a_file_is_put_in_force_when_two_looks_find_the_same(
    followed: Followed, corp: Idp, file: Path, logged: list[dict[str, Any]]
) -> None:
    """As for the policy and for certificates, however it is replaced."""
    for label in ("one", "two"):
        corp.keys["rsa"] = rsa_key(label)
        write(file, corp.jwks())
        await followed.look()
    assert [line["event"] for line in logged] == []
    await followed.look()
    assert [line["event"] for line in logged] == ["identity.jwks_changed"]
    assert await followed.knows("rsa")


async def test_a_call_with_a_new_key_does_not_wait_for_a_second_look(
    followed: Followed, corp: Idp, file: Path
) -> None:
    """The file is read for it at once."""
    corp.keys["new"] = rsa_key("new")
    replace(file, corp.jwks())
    assert await followed.knows("new")


@pytest.mark.parametrize("content", [EMPTY, b'{"keys":[{"kty":"oct","k":"AAAA"}]}'], ids=["empty", "useless"])
async def test_a_file_from_which_every_key_was_removed_proves_nothing(
    followed: Followed, file: Path, logged: list[dict[str, Any]], content: bytes
) -> None:
    """The operator said so. It is an error in the log, and no outage: the gateway stays ready."""
    assert await followed.knows("rsa")
    replace(file, content)
    await followed.look(2)
    assert not await followed.knows("rsa")
    assert await followed.ready()
    assert "identity.jwks_withdrawn" in [line["event"] for line in logged]


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]"], ids=["missing", "empty", "half", "no set"])
async def test_a_file_that_cannot_be_used_changes_nothing_until_the_maximum_age(
    followed: Followed, file: Path, corp: Idp, logged: list[dict[str, Any]], content: bytes | None
) -> None:
    """It is logged once, and so is the end of it."""
    write(file, content)
    await followed.look(10)
    assert await followed.knows("rsa")
    assert await followed.ready()
    assert [issuer for issuer, _ in causes(logged)] == ["corp"]
    write(file, corp.jwks())
    await followed.look(2)
    assert [line["event"] for line in logged] == ["identity.jwks_failed", "identity.jwks_back"]
    write(file, None)
    await followed.look()
    await followed.clock.advance(3600)
    with pytest.raises(IdentityUnavailable):
        await followed.knows("rsa")
    assert await followed.ready()


async def test_a_file_that_is_followed_never_grows_old(followed: Followed) -> None:
    """Each look that finds the same makes its keys new again."""
    for _ in range(3):
        await followed.clock.advance(3000)
        await followed.look()
        assert await followed.knows("rsa")


async def test_a_file_system_that_hangs_leaves_known_keys_in_force(
    followed: Followed, file: Path, corp: Idp, logged: list[dict[str, Any]]
) -> None:
    """A stranger with an unknown key waits for it, and nobody else; afterwards it is followed again."""
    corp.keys["new"] = rsa_key("new")
    with hanging(file):
        stranger = asyncio.create_task(followed.knows("new"))
        for _ in range(5):
            await asyncio.sleep(0)
        assert await followed.knows("rsa")
        assert not stranger.done()
        assert not await stranger
    assert causes(logged) == [("corp", f"{file}: {HUNG}")]
    write(file, corp.jwks())
    await followed.look(2)
    assert await followed.knows("new")


async def test_keys_are_got_at_the_start_before_any_call(fetched: Followed, server: JwksServer) -> None:
    """So the first call does not wait for the issuer, and readiness is known."""
    assert not await fetched.ready()
    fetched.identity.start()
    await fetched.identity.wait_for_keys(10)
    assert await fetched.ready()
    assert await fetched.knows("rsa")
    assert server.fetches == 1


async def test_an_issuer_that_is_late_is_asked_again_until_there_are_keys(
    fetched: Followed, server: JwksServer, corp: Idp, logged: list[dict[str, Any]]
) -> None:
    """After 1, 2, 4 … s up to the cool-down; the log names it and the cause, once."""
    server.answer = Answer(status=503)
    await fetched.start()
    for number, pause in enumerate((1, 2, 4, 8, 16, 30, 30), 1):
        assert server.fetches == number
        assert not await fetched.ready()
        await fetched.clock.advance(pause)
        await fetched.resting()
    assert causes(logged) == [("corp", "answered with status 503")]
    server.answer = Answer(corp.jwks())
    await fetched.clock.advance(30)
    async with asyncio.timeout(20):
        while not await fetched.ready():  # noqa: ASYNC110
            await asyncio.sleep(0.002)
    fetches = server.fetches
    await fetched.clock.advance(300)
    assert server.fetches == fetches


async def test_readiness_waits_for_one_key_set_of_each_issuer_and_outlives_outages(
    corp: Idp, partner: Idp, server: JwksServer, tmp_path: Path, clock: FakeClock
) -> None:
    """Once had, known keys count until their maximum age, and readiness stays."""
    path = tmp_path / "partner.json"
    issuers = (corp.settings(server.url), partner.settings(path))
    identity = JwtIdentity(JwtSettings(issuers=issuers), clock)
    identity.start()
    await identity.wait_for_keys(10)
    with pytest.raises(IdentityUnavailable) as missing:
        await identity.check()
    assert missing.value.detail == "no keys of partner"
    path.write_bytes(partner.jwks())
    async with asyncio.timeout(20):
        while True:
            try:
                await identity.check()
            except IdentityUnavailable:
                await clock.advance(FOLLOW_S)
                await asyncio.sleep(0.002)
            else:
                break
    path.unlink()
    server.answer = Answer(status=503)
    await clock.advance(7200)
    await identity.check()
    await identity.close()


async def test_a_slow_issuer_does_not_hold_up_the_start(fetched: Followed, server: JwksServer) -> None:
    """It is waited for as long as was asked."""
    server.open.clear()
    fetched.identity.start()
    await fetched.identity.wait_for_keys(0.05)
    assert not await fetched.ready()


async def test_a_reload_ends_a_key_that_its_issuer_has_removed(
    fetched: Followed, server: JwksServer, corp: Idp
) -> None:
    """Within the cool-down too, for remembered tokens too."""
    await fetched.identity.wait_for_keys(0)
    assert await fetched.knows("rsa")
    removed = corp.keys["rsa"]
    del corp.keys["rsa"]
    server.answer = Answer(corp.jwks())
    corp.keys["rsa"] = removed
    assert await fetched.knows("rsa")
    fetched.identity.reload()
    await fetched.identity.wait_for_keys(10)
    assert not await fetched.knows("rsa")
    assert await fetched.knows("ec")


async def test_a_reload_during_a_fetch_is_another_fetch(fetched: Followed, server: JwksServer) -> None:
    """The one under way may have been answered before the change; several reloads are one more fetch."""
    assert await fetched.knows("rsa")
    server.open.clear()
    fetched.identity.reload()
    await server.asked(2)
    for _ in range(5):
        fetched.identity.reload()
    server.open.set()
    await fetched.identity.wait_for_keys(10)
    assert server.fetches == 3


async def test_a_reload_finds_that_every_key_was_removed(fetched: Followed, server: JwksServer) -> None:
    """A periodic fetch takes it for a fault of the issuer, and a reload for what the operator wants."""
    assert await fetched.knows("rsa")
    server.answer = Answer(EMPTY)
    await fetched.clock.advance(1800)
    assert await fetched.knows("rsa")
    await server.asked(2)
    await fetched.identity.wait_for_keys(10)
    assert await fetched.knows("rsa")
    fetched.identity.reload()
    await fetched.identity.wait_for_keys(10)
    assert not await fetched.knows("rsa")
