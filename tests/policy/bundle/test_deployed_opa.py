"""An OPA as docs/opa.md runs it: it pulls the bundle over HTTP, and serves the gateway's queries only."""

from __future__ import annotations

import asyncio
import copy
import gzip
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from eksgateway.clock import SystemClock
from eksgateway.errors import GatewayError
from eksgateway.policy.opa import OpaEngine
from eksgateway.settings import OpaSettings
from support.bundle_host import BundleHost, host_bundles
from support.bundles import bundle_of
from support.deployed_opa import DeployedOpa, run_deployed_opa
from support.gateway import POLICY_DATA
from support.logs import capture_logs
from support.questions import at_request, caller
from support.signing_keys import KeyFiles, write_key
from support.waiting import wait_until

VIEWER = at_request(caller("jwt:test:viewer", "test:oncall"))
WITHOUT_ONCALL = copy.deepcopy(POLICY_DATA)
WITHOUT_ONCALL["eksgateway"]["grants"].pop(0)


@dataclass(frozen=True)
class Place:
    """The surroundings of an OPA. ``key`` is the one that it trusts."""

    host: BundleHost
    key: KeyFiles
    folder: Path

    def sign(self, data: dict[str, Any] = POLICY_DATA) -> bytes:
        return bundle_of(data, self.key.private)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with host_bundles() as host:
        yield Place(host, write_key(tmp_path, "ES256"), tmp_path)


@asynccontextmanager
async def _run(place: Place, *options: str) -> AsyncIterator[tuple[DeployedOpa, OpaEngine]]:
    async with run_deployed_opa(place.host.url, place.key.public, place.folder, *options) as opa:
        engine = await _connect(opa)
        try:
            yield opa, engine
        finally:
            await engine.close()


async def _connect(opa: DeployedOpa) -> OpaEngine:
    return await OpaEngine.open(OpaSettings(url=opa.url, bundle="eksgateway"), SystemClock(), timeout_s=20)


async def _wait_ready(engine: OpaEngine) -> None:
    await _wait_for_trouble(engine)


async def _wait_for_trouble(engine: OpaEngine, *parts: str) -> None:
    """Until the cause has these parts, or until there is none."""
    trouble = None
    try:
        async with asyncio.timeout(60):
            while trouble is None or bool(parts) != bool(trouble) or any(one not in trouble for one in parts):
                await asyncio.sleep(0.1)
                trouble = await _trouble(engine)
    except TimeoutError:
        raise AssertionError(f"it stays: {trouble!r}") from None


async def _trouble(engine: OpaEngine) -> str:
    """Why the engine is not ready; empty if it is."""
    try:
        await engine.check()
    except GatewayError as exc:
        return exc.detail or exc.message
    return ""


async def test_a_signed_bundle_decides_with_its_revision(place: Place) -> None:
    place.host.bundle = place.sign()
    async with _run(place) as (_, engine):
        await _wait_ready(engine)
        decision = await engine.decide(VIEWER)
        assert decision.allowed
        assert decision.policy_revision == engine.revision
        assert engine.revision.startswith("eksgateway=sha256:")


def _tamper(bundle: bytes) -> bytes:
    """Another group of the same length, in an archive that is whole."""
    content = gzip.decompress(bundle)
    assert b"test:oncall" in content
    return gzip.compress(content.replace(b"test:oncall", b"test:outers"))


def _with_another_key(place: Place) -> bytes:
    other = write_key(place.folder, "ES256", "other")
    return bundle_of(POLICY_DATA, other.private)


REFUSED = {
    "unsigned": (lambda _: bundle_of(POLICY_DATA), ("missing .signatures.json", "--signing-key")),
    "another-key": (_with_another_key, ("failed to verify JWT signature", "OPA's `keys`")),
    "another-key-id": (
        lambda place: bundle_of(POLICY_DATA, place.key.private, "policy-2"),
        ("policy-2 not found", "--signing-key-id"),
    ),
    "tampered": (lambda place: _tamper(place.sign()), ("data.json: digest mismatch", "make it again")),
    "cut-off": (lambda place: place.sign()[:-100], ("bundle read failed",)),
    "no-bundle": (lambda _: None, ("Not Found", "`bundles`")),
}


@pytest.mark.parametrize(("make", "cause"), REFUSED.values(), ids=REFUSED)
async def test_a_bundle_that_is_not_trusted_is_not_loaded(
    place: Place, make: Any, cause: tuple[str, ...]
) -> None:
    """Readiness has the cause and the remedy. The right one is loaded later, and no wrong one after it."""
    place.host.bundle = wrong = make(place)
    with capture_logs() as logs:
        async with _run(place) as (_, engine):
            await _wait_for_trouble(engine, *cause)
            place.host.bundle = place.sign()
            await _wait_ready(engine)
            revision = engine.revision
            place.host.bundle = wrong
            await wait_until(lambda: engine.reloads.failing)
            await engine.check()
            assert (await engine.decide(VIEWER)).allowed
            assert engine.revision == revision
    refused = [each for each in logs if each["event"] == "policy.bundle_failed"]
    assert all(part in refused[0]["detail"] for part in cause)


async def test_the_last_bundle_decides_while_the_bundles_server_is_away(place: Place) -> None:
    """At the start nothing is decided without it; later, and at a restart of OPA, the last bundle decides."""
    place.host.bundle = place.sign()
    place.host.stop()
    async with _run(place) as (opa, engine):
        await _wait_for_trouble(engine, "request failed", "`services`")
        place.host.start()
        await _wait_ready(engine)
        revision = engine.revision
        place.host.stop()
        await wait_until(lambda: engine.reloads.failing)
        await opa.kill()
        assert "cannot be reached" in await _trouble(engine)
        await opa.start()
        await _wait_ready(engine)
        assert (await engine.decide(VIEWER)).allowed
        assert engine.revision == revision


async def test_a_new_revision_comes_into_force(place: Place) -> None:
    place.host.bundle = place.sign()
    async with _run(place) as (_, engine):
        await _wait_ready(engine)
        before = engine.revision
        place.host.bundle = place.sign(WITHOUT_ONCALL)
        after = await engine.revision_after(before)
        decision = await engine.decide(VIEWER)
        assert not decision.allowed
        assert decision.policy_revision == after != before


async def test_a_key_is_replaced_while_both_are_trusted(place: Place) -> None:
    """The signature names its key. The commands are those of docs/opa.md."""
    page = (Path(__file__).parents[3] / "docs" / "opa.md").read_text()
    new = write_key(place.folder, "ES256", "policy-2")
    (options,) = re.findall(r"^deploy/opa/start.sh (--set .*)$", page, re.MULTILINE)
    place.host.bundle = place.sign()
    async with _run(place, *options.replace("policy-2.pub", str(new.public)).split()) as (_, engine):
        await _wait_ready(engine)
        before = engine.revision
        place.host.bundle = bundle_of(WITHOUT_ONCALL, new.private, "policy-2")
        assert await engine.revision_after(before) != before


async def test_the_last_bundle_on_disk_is_verified_at_a_restart(place: Place) -> None:
    place.host.bundle = place.sign()
    async with _run(place) as (opa, engine):
        await _wait_ready(engine)
        await opa.kill()
        place.host.bundle = None
        (saved,) = (place.folder / "opa-state").rglob("bundle.tar.gz")
        saved.write_bytes(_tamper(saved.read_bytes()))
        await opa.start()
        restarted = await _connect(opa)
        try:
            await _wait_for_trouble(restarted, "bundle 'eksgateway'")
        finally:
            await restarted.close()


REQUESTS = {
    ("PUT", "/v1/data/eksgateway/index"),
    ("PUT", "/v1/data/eksgateway/grants"),
    ("PUT", "/v1/data/other"),
    ("PATCH", "/v1/data/eksgateway"),
    ("DELETE", "/v1/data/eksgateway"),
    ("GET", "/v1/data"),
    ("GET", "/v1/data/eksgateway/authz/decision"),
    ("POST", "/v1/data"),
    ("POST", "/v1/data/eksgateway"),
    ("POST", "/v1/data/eksgateway/index?provenance=true"),
    ("POST", "/v1/data/eksgateway/authz/decision?provenance=true&explain=full"),
    ("POST", "/v0/data/eksgateway/authz/decision"),
    ("POST", "/"),
    ("POST", "/v1/query"),
    ("GET", "/v1/query?q=data"),
    ("POST", "/v1/compile"),
    ("PUT", "/v1/policies/mine"),
    ("GET", "/v1/policies"),
    ("DELETE", "/v1/policies/eksgateway"),
    ("GET", "/v1/config"),
    ("GET", "/metrics"),
}


async def test_the_api_serves_the_gateways_queries_only(place: Place) -> None:
    """No request writes data beside the bundle."""
    place.host.bundle = place.sign()
    async with _run(place) as (opa, engine):
        await _wait_ready(engine)
        for method, path in sorted(REQUESTS):
            status, body = await opa.request(method, path, {"input": {}} if method != "GET" else None)
            assert (status, "administrative policy" in body) == (401, True), (method, path, body)
        for path in ("/health", "/health?bundles", "/v1/status"):
            assert (await opa.request("GET", path))[0] == 200, path
        assert (await engine.decide(VIEWER)).allowed


async def test_the_decision_log_has_the_decisions_of_calls_only(place: Place) -> None:
    """Neither questions for the revision nor those of readiness. Requests are not logged either."""
    place.host.bundle = place.sign()
    async with _run(place) as (opa, engine):
        await _wait_ready(engine)
        await engine.check()
        await engine.decide(VIEWER)
        await wait_until(lambda: opa.logged_decisions)
        (logged,) = opa.logged_decisions
        assert logged["path"] == "eksgateway/authz/decision"
        assert logged["input"] == json.loads(json.dumps(VIEWER.to_input()))
        assert logged["result"]["allow"] is True
        assert f"eksgateway={logged['bundles']['eksgateway']['revision']}" == engine.revision
        assert not [line for line in opa.lines if "req_path" in line]


async def test_opa_listens_on_loopback(place: Place) -> None:
    async with _run(place) as (opa, _):
        started = next(line for line in opa.lines if line["msg"] == "Initializing server.")
        assert started["addrs"] == [opa.address]
    assert '"${OPA_ADDR:-127.0.0.1:8181}"' in (Path(__file__).parents[3] / "deploy/opa/start.sh").read_text()
