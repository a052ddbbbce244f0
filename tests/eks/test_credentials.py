"""The gateway's own credentials: failures of each source, and recovery."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import boto3
import pytest
from aiohttp import web
from botocore.credentials import ReadOnlyCredentials

from eksgateway.eks.adapter import BotoEks, is_permanent
from eksgateway.eks.credentials import RENEW_S, UNUSED_S, CachedCredentials, FetchedCredentials
from eksgateway.errors import UpstreamCredentials
from eksgateway.model import UpdateRef
from support.boto_eks import ACCOUNT, CALLER, MakeEks, SkippingClock
from support.clock import NEVER
from support.http_server import serve_app
from support.logs import capture_logs
from support.simulator import SimulatedEks
from support.waiting import wait_until

TOKEN = "6f0b1a52-6d57-4a9e-9a4f-0d5d0a2f8b11"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/eksgateway"
KEYS = ReadOnlyCredentials("key", "secret", "token")


@pytest.fixture(autouse=True)
def _clear_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only credentials that a test sets up exist."""
    for name in tuple(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)


def rollback(simulated_eks: SimulatedEks) -> UpdateRef:
    return simulated_eks.ref("blue", simulated_eks.rollback("blue"))


async def expect_refusal(eks: BotoEks, ref: UpdateRef) -> UpstreamCredentials:
    """Every call fails with UpstreamCredentials, and its message blames neither EKS nor the caller."""
    with pytest.raises(UpstreamCredentials) as raised:
        await eks.describe_update(ref)
    with pytest.raises(UpstreamCredentials):
        await eks.describe_cluster(ref.cluster, on_behalf_of=CALLER)
    with pytest.raises(UpstreamCredentials):
        await eks.cancel_update(ref, on_behalf_of=CALLER, token=TOKEN, send_before=NEVER)
    assert "did nothing wrong" in raised.value.message
    return raised.value


async def is_ready(eks: BotoEks) -> bool:
    try:
        await eks.check()
    except UpstreamCredentials:
        return False
    return True


async def wait_until_ready(eks: BotoEks) -> None:
    async with asyncio.timeout(20):
        while not await is_ready(eks):  # noqa: ASYNC110 - as readiness asks it
            await asyncio.sleep(0.01)


# -- Web identity (IRSA) ---------------------------------------------------------------------------


def leave_missing(_: Path) -> None: ...


def make_empty(file: Path) -> None:
    file.write_text("")


def make_folder(file: Path) -> None:
    file.mkdir()


@pytest.mark.parametrize("spoil", [leave_missing, make_empty, make_folder], ids=lambda spoil: spoil.__name__)
async def test_an_unusable_token_file_is_logged_and_ends_readiness(
    simulated_eks: SimulatedEks,
    make_eks: MakeEks,
    clock: SkippingClock,
    tmp_path: Path,
    *,
    moto: str,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[Path], None],
) -> None:
    """Readiness returns with a usable file."""
    file = tmp_path / "token"
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(file))
    monkeypatch.setenv("AWS_ROLE_ARN", ROLE)
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", moto)
    spoil(file)
    eks, ref = make_eks(credentials=boto3.Session()), rollback(simulated_eks)
    with capture_logs() as logs:
        with pytest.raises(UpstreamCredentials) as raised:
            await eks.warm()
        assert not is_permanent(raised.value)
        assert not await is_ready(eks)
        error = await expect_refusal(eks, ref)
        assert str(file) not in error.message + str(error.metadata)
        if file.is_dir():
            file.rmdir()
        file.write_text("a-token-of-the-cluster")
        clock.ahead += 3
        await wait_until_ready(eks)
    (failed,) = [line for line in logs if line["event"] == "eks.credentials_failed"]
    assert failed["AWS_WEB_IDENTITY_TOKEN_FILE"] == str(file)
    assert failed["AWS_ROLE_ARN"] == ROLE
    assert [line["event"] for line in logs].count("eks.credentials_found") == 1
    assert simulated_eks.calls() == ()
    assert (await eks.describe_update(ref)).id == ref.update_id


async def test_a_web_identity_that_sts_refuses_is_logged_with_the_code_of_aws(
    make_eks: MakeEks, simulated_eks: SimulatedEks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(_: web.Request) -> web.Response:
        text = "<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>"
        return web.Response(status=403, text=text, content_type="text/xml")

    (tmp_path / "token").write_text("a-token-of-the-cluster")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_ROLE_ARN", ROLE)
    async with serving(refuse) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", url)
        error = await expect_refusal(make_eks(credentials=boto3.Session()), rollback(simulated_eks))
    assert "AssumeRoleWithWebIdentity: ClientError AccessDenied" in error.detail


async def test_the_output_of_a_failing_credential_process_is_not_logged(
    make_eks: MakeEks, simulated_eks: SimulatedEks, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\necho token=s3cret >&2\nexit 1\n")
    program.chmod(0o700)
    (tmp_path / "config").write_text(f"[default]\ncredential_process = {program}\n")
    await expect_refusal(make_eks(credentials=boto3.Session()), rollback(simulated_eks))
    assert "eks.credentials_failed" in caplog.text
    assert "s3cret" not in caplog.text


# -- Endpoints: Pod Identity, ECS ------------------------------------------------------------------


@asynccontextmanager
async def serving(answer: Callable[[web.Request], object]) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", answer)  # type: ignore[arg-type]
    async with serve_app(app) as port:
        yield f"http://127.0.0.1:{port}"


async def test_a_failing_endpoint_is_asked_by_one_call_per_pause(
    simulated_eks: SimulatedEks, make_eks: MakeEks, clock: SkippingClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetches, works = 0, False

    async def answer(_: web.Request) -> web.Response:
        nonlocal fetches
        fetches += 1
        if not works:
            return web.Response(status=500)
        keys = {"AccessKeyId": f"AKIA{ACCOUNT}", "SecretAccessKey": "s", "Token": "t"}
        return web.json_response(keys | {"Expiration": "2099-01-01T00:00:00Z"})

    async with serving(answer) as url:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{url}/v1/credentials")
        eks, ref = make_eks(credentials=boto3.Session()), rollback(simulated_eks)
        with capture_logs() as logs, pytest.raises(UpstreamCredentials):
            await eks.warm()
        once = fetches  # botocore asks an endpoint a few times
        (failed,) = [line for line in logs if line["event"] == "eks.credentials_failed"]
        assert failed["AWS_CONTAINER_CREDENTIALS_FULL_URI"].startswith(url)
        for _ in range(30):
            await expect_refusal(eks, ref)
        assert fetches == once
        clock.ahead += 3
        looking = asyncio.create_task(eks.describe_update(ref))
        await wait_until(lambda: fetches > once)
        began = time.monotonic()
        await expect_refusal(eks, ref)
        assert time.monotonic() - began < 1
        works = True
        assert (await looking).id == ref.update_id  # botocore's own second attempt
        assert await is_ready(eks)
        assert (await eks.describe_update(ref)).id == ref.update_id


# -- Other places ----------------------------------------------------------------------------------

SSO = f"""sso_start_url = https://corp.awsapps.com/start
sso_region = us-east-1
sso_account_id = {ACCOUNT}
sso_role_name = ops
"""
PROFILES = {
    "expired-sso": (SSO, False),
    "failing-process": ("credential_process = false\n", False),
    "talking-process": ("credential_process = echo canary\n", False),
    "missing-source-profile": (f"role_arn = {ROLE}\nsource_profile = nobody\n", True),
    "half-of-the-keys": ("aws_access_key_id = AKIA\n", True),
}


@pytest.mark.parametrize(("profile", "stays"), PROFILES.values(), ids=PROFILES)
async def test_a_profile_without_credentials_raises_upstream_credentials(
    simulated_eks: SimulatedEks, make_eks: MakeEks, tmp_path: Path, *, profile: str, stays: bool
) -> None:
    """Unusable settings end a start."""
    (tmp_path / "config").write_text(f"[default]\n{profile}")
    eks = make_eks(credentials=boto3.Session())
    with pytest.raises(UpstreamCredentials) as raised:
        await eks.warm()
    assert is_permanent(raised.value) == stays
    assert "canary" not in (await expect_refusal(eks, rollback(simulated_eks))).detail
    assert not await is_ready(eks)


async def test_check_does_not_wait_and_fetches_in_the_background(
    simulated_eks: SimulatedEks, make_eks: MakeEks, tmp_path: Path
) -> None:
    pipe = tmp_path / "never"
    os.mkfifo(pipe)
    (tmp_path / "config").write_text(f"[default]\ncredential_process = cat {pipe}\n")
    eks = make_eks(credentials=boto3.Session())
    began = time.monotonic()
    assert not await is_ready(eks)
    assert time.monotonic() - began < 1
    writing = await asyncio.to_thread(os.open, pipe, os.O_WRONLY)  # opens once the process reads
    for _ in range(5):
        assert not await is_ready(eks)
    ref = rollback(simulated_eks)
    began = time.monotonic()
    await asyncio.gather(*(expect_refusal(eks, ref) for _ in range(5)))
    assert time.monotonic() - began < 20
    os.write(writing, b'{"Version": 1, "AccessKeyId": "AKIA%s", "SecretAccessKey": "s"}' % ACCOUNT.encode())
    os.close(writing)
    await wait_until_ready(eks)
    assert (await eks.describe_update(ref)).id == ref.update_id


# -- CachedCredentials -----------------------------------------------------------------------------


@dataclass
class Source:
    """Returns credentials that are valid for ``lasts_s``, or fails."""

    clock: SkippingClock = field(default_factory=SkippingClock)
    lasts_s: float = 3600.0
    fetches: int = 0
    fails: bool = False
    open: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.open.set()
        self.cached = CachedCredentials(self.get, self.clock, 2.0, dict)

    def get(self) -> FetchedCredentials:
        self.fetches += 1
        assert self.open.wait(20)
        if self.fails:
            raise FileNotFoundError(2, "gone", "/token")
        ends = self.clock.monotonic() + self.lasts_s
        return FetchedCredentials(KEYS, lambda seconds: self.clock.monotonic() + seconds <= ends, "somewhere")


def test_get_fetches_once_until_credentials_are_due() -> None:
    source = Source()
    assert [source.cached.get() for _ in range(3)] == [KEYS] * 3
    assert (source.fetches, source.cached.is_due) == (1, False)
    source.clock.ahead += 3600 - RENEW_S + 1
    assert source.cached.is_due
    source.cached.get()
    assert (source.fetches, source.cached.is_due) == (2, False)


def test_get_returns_cached_credentials_while_renewal_fails() -> None:
    """Until they end; the source is asked once per pause."""
    source = Source()
    source.cached.get()
    source.fails = True
    source.clock.ahead += 3600 - RENEW_S + 1
    for _ in range(5):
        assert source.cached.get() == KEYS
    assert (source.fetches, source.cached.error) == (2, None)
    source.clock.ahead += RENEW_S - UNUSED_S
    for _ in range(5):
        with pytest.raises(UpstreamCredentials):
            source.cached.get()
    assert source.fetches == 3
    assert "file=/token" in getattr(source.cached.error, "detail", "")
    source.fails = False
    source.clock.ahead += 3
    assert source.cached.get() == KEYS
    assert source.cached.error is None


def test_get_uses_short_lived_credentials() -> None:
    """They are renewed as often as the pause allows."""
    source = Source(lasts_s=60)
    for _ in range(5):
        assert source.cached.get() == KEYS
    assert source.fetches == 1
    source.clock.ahead += 3
    source.cached.get()
    assert source.fetches == 2
    source.clock.ahead += 61
    source.fails = True
    with pytest.raises(UpstreamCredentials):
        source.cached.get()


async def test_get_blocks_one_thread_while_a_failed_source_is_asked() -> None:
    """The others fail at once or use cached credentials."""
    source = Source(fails=True)
    with pytest.raises(UpstreamCredentials):
        source.cached.get()
    source.clock.ahead += 3
    source.open.clear()
    source.fails = False
    first = asyncio.create_task(asyncio.to_thread(source.cached.get))
    await wait_until(lambda: source.fetches == 2)
    began = time.monotonic()
    for _ in range(10):
        with pytest.raises(UpstreamCredentials):
            source.cached.get()
    assert time.monotonic() - began < 1
    source.open.set()
    assert await first == KEYS
    source.clock.ahead += 3600 - RENEW_S + 1
    source.open.clear()
    renewing = asyncio.create_task(asyncio.to_thread(source.cached.get))
    await wait_until(lambda: source.fetches == 3)
    assert source.cached.get() == KEYS
    source.open.set()
    assert await renewing == KEYS
