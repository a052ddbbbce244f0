"""Keys fetched without calls: at the start, from followed files, and at a reload."""

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
from support.hanging_file import hang_reads
from support.jwks_server import JwksAnswer, JwksServer
from support.logs import capture_logs
from support.tokens import Idp, rsa_key

NOW = FakeClock().now()
EMPTY = b'{"keys":[]}'


class StartedIdentity:
    """An identity that trusts one issuer, whose keys are at ``place``."""

    def __init__(self, corp: Idp, place: Path | str, clock: FakeClock) -> None:
        self.corp = corp
        self.clock = clock
        self.identity = JwtIdentity(JwtSettings(issuers=(corp.settings(place),)), clock)

    async def start(self) -> None:
        self.identity.start()
        await self.identity.wait_for_keys(10)
        await self.wait_until_idle()

    async def wait_until_idle(self) -> None:
        """Wait until all tasks sleep by the clock. Threads and sockets do not follow it."""
        async with asyncio.timeout(20):
            while not self.clock.sleepers:  # noqa: ASYNC110
                await asyncio.sleep(0.002)

    async def let_reads_pass(self, times: int = 1) -> None:
        for _ in range(times):
            await self.clock.advance(FOLLOW_S)
            await self.wait_until_idle()

    async def accepts(self, kid: str) -> bool:
        """Whether a token signed with this key is accepted."""
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
def log_lines() -> Iterator[list[dict[str, Any]]]:
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
async def file_identity(corp: Idp, file: Path, clock: FakeClock) -> AsyncIterator[StartedIdentity]:
    file_identity = StartedIdentity(corp, file, clock)
    await file_identity.start()
    yield file_identity
    await file_identity.identity.close()


@pytest.fixture
async def url_identity(corp: Idp, server: JwksServer, clock: FakeClock) -> AsyncIterator[StartedIdentity]:
    url_identity = StartedIdentity(corp, server.url, clock)
    yield url_identity
    await url_identity.identity.close()


def write(file: Path, content: bytes | None) -> None:
    """Write in place; None removes the file."""
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)


def causes(log_lines: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(line["issuer"], line["cause"]) for line in log_lines if line["event"] == "identity.jwks_failed"]


async def test_key_removed_from_a_file_invalidates_its_tokens(
    file_identity: StartedIdentity, corp: Idp, file: Path
) -> None:
    """Within two reads. Other keys stay valid."""
    assert await file_identity.accepts("rsa")
    assert await file_identity.accepts("ec")
    removed = corp.keys["rsa"]
    del corp.keys["rsa"]
    replace(file, corp.jwks())
    await file_identity.let_reads_pass(2)
    corp.keys["rsa"] = removed
    assert not await file_identity.accepts("rsa")
    assert await file_identity.accepts("ec")


async def test_changed_file_takes_effect_after_two_equal_reads(
    file_identity: StartedIdentity, corp: Idp, file: Path, log_lines: list[dict[str, Any]]
) -> None:
    """However it is replaced."""
    for label in ("one", "two"):
        corp.keys["rsa"] = rsa_key(label)
        write(file, corp.jwks())
        await file_identity.let_reads_pass()
    assert [line["event"] for line in log_lines] == []
    await file_identity.let_reads_pass()
    assert [line["event"] for line in log_lines] == ["identity.jwks_changed"]
    assert await file_identity.accepts("rsa")


async def test_call_with_a_new_key_reads_the_file_at_once(
    file_identity: StartedIdentity, corp: Idp, file: Path
) -> None:
    corp.keys["new"] = rsa_key("new")
    replace(file, corp.jwks())
    assert await file_identity.accepts("new")


@pytest.mark.parametrize("content", [EMPTY, b'{"keys":[{"kty":"oct","k":"AAAA"}]}'], ids=["empty", "useless"])
async def test_file_without_usable_keys_withdraws_all_keys(
    file_identity: StartedIdentity, file: Path, log_lines: list[dict[str, Any]], content: bytes
) -> None:
    """The operator removed them. It is logged as an error, and the gateway stays ready."""
    assert await file_identity.accepts("rsa")
    replace(file, content)
    await file_identity.let_reads_pass(2)
    assert not await file_identity.accepts("rsa")
    assert await file_identity.ready()
    assert "identity.jwks_withdrawn" in [line["event"] for line in log_lines]


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]"], ids=["missing", "empty", "half", "no set"])
async def test_invalid_file_changes_nothing_until_the_maximum_age(
    file_identity: StartedIdentity,
    file: Path,
    corp: Idp,
    log_lines: list[dict[str, Any]],
    content: bytes | None,
) -> None:
    """The failure and its end are logged once each."""
    write(file, content)
    await file_identity.let_reads_pass(10)
    assert await file_identity.accepts("rsa")
    assert await file_identity.ready()
    assert [issuer for issuer, _ in causes(log_lines)] == ["corp"]
    write(file, corp.jwks())
    await file_identity.let_reads_pass(2)
    assert [line["event"] for line in log_lines] == ["identity.jwks_failed", "identity.jwks_back"]
    write(file, None)
    await file_identity.let_reads_pass()
    await file_identity.clock.advance(3600)
    with pytest.raises(IdentityUnavailable):
        await file_identity.accepts("rsa")
    assert await file_identity.ready()


async def test_keys_of_an_unchanged_file_do_not_age(file_identity: StartedIdentity) -> None:
    for _ in range(3):
        await file_identity.clock.advance(3000)
        await file_identity.let_reads_pass()
        assert await file_identity.accepts("rsa")


async def test_hanging_file_system_keeps_known_keys_in_force(
    file_identity: StartedIdentity, file: Path, corp: Idp, log_lines: list[dict[str, Any]]
) -> None:
    """Only a call with an unknown key waits. The file is followed again afterwards."""
    corp.keys["new"] = rsa_key("new")
    with hang_reads(file):
        stranger = asyncio.create_task(file_identity.accepts("new"))
        for _ in range(5):
            await asyncio.sleep(0)
        assert await file_identity.accepts("rsa")
        assert not stranger.done()
        assert not await stranger
    assert causes(log_lines) == [("corp", f"{file}: {HUNG}")]
    write(file, corp.jwks())
    await file_identity.let_reads_pass(2)
    assert await file_identity.accepts("new")


async def test_keys_are_fetched_at_the_start_before_any_call(
    url_identity: StartedIdentity, server: JwksServer
) -> None:
    assert not await url_identity.ready()
    url_identity.identity.start()
    await url_identity.identity.wait_for_keys(10)
    assert await url_identity.ready()
    assert await url_identity.accepts("rsa")
    assert server.fetches == 1


async def test_first_fetch_is_retried_until_there_are_keys(
    url_identity: StartedIdentity, server: JwksServer, corp: Idp, log_lines: list[dict[str, Any]]
) -> None:
    """After 1, 2, 4 … s up to the cool-down. The cause is logged once."""
    server.answer = JwksAnswer(status=503)
    await url_identity.start()
    for number, pause in enumerate((1, 2, 4, 8, 16, 30, 30), 1):
        assert server.fetches == number
        assert not await url_identity.ready()
        await url_identity.clock.advance(pause)
        await url_identity.wait_until_idle()
    assert causes(log_lines) == [("corp", "answered with status 503")]
    server.answer = JwksAnswer(corp.jwks())
    await url_identity.clock.advance(30)
    async with asyncio.timeout(20):
        while not await url_identity.ready():  # noqa: ASYNC110
            await asyncio.sleep(0.002)
    fetches = server.fetches
    await url_identity.clock.advance(300)
    assert server.fetches == fetches


async def test_readiness_requires_one_key_set_of_each_issuer(
    corp: Idp, partner: Idp, server: JwksServer, tmp_path: Path, clock: FakeClock
) -> None:
    """After that an outage does not affect readiness."""
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
    server.answer = JwksAnswer(status=503)
    await clock.advance(7200)
    await identity.check()
    await identity.close()


async def test_slow_issuer_delays_the_start_up_to_the_timeout_only(
    url_identity: StartedIdentity, server: JwksServer
) -> None:
    server.open.clear()
    url_identity.identity.start()
    await url_identity.identity.wait_for_keys(0.05)
    assert not await url_identity.ready()


async def test_reload_invalidates_a_removed_key(
    url_identity: StartedIdentity, server: JwksServer, corp: Idp
) -> None:
    """Within the cool-down, and for remembered tokens."""
    await url_identity.identity.wait_for_keys(0)
    assert await url_identity.accepts("rsa")
    removed = corp.keys["rsa"]
    del corp.keys["rsa"]
    server.answer = JwksAnswer(corp.jwks())
    corp.keys["rsa"] = removed
    assert await url_identity.accepts("rsa")
    url_identity.identity.reload()
    await url_identity.identity.wait_for_keys(10)
    assert not await url_identity.accepts("rsa")
    assert await url_identity.accepts("ec")


async def test_reload_during_a_fetch_causes_one_more_fetch(
    url_identity: StartedIdentity, server: JwksServer
) -> None:
    """The running fetch may have been answered before the change."""
    assert await url_identity.accepts("rsa")
    server.open.clear()
    url_identity.identity.reload()
    await server.wait_for_requests(2)
    for _ in range(5):
        url_identity.identity.reload()
    server.open.set()
    await url_identity.identity.wait_for_keys(10)
    assert server.fetches == 3


async def test_reload_withdraws_all_keys_when_the_issuer_has_none(
    url_identity: StartedIdentity, server: JwksServer
) -> None:
    """A periodic fetch treats that as a fault of the issuer."""
    assert await url_identity.accepts("rsa")
    server.answer = JwksAnswer(EMPTY)
    await url_identity.clock.advance(1800)
    assert await url_identity.accepts("rsa")
    await server.wait_for_requests(2)
    await url_identity.identity.wait_for_keys(10)
    assert await url_identity.accepts("rsa")
    url_identity.identity.reload()
    await url_identity.identity.wait_for_keys(10)
    assert not await url_identity.accepts("rsa")
