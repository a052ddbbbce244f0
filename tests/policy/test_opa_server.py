"""The engine for an OPA server with a real one: plain files, a bundle, a change, an outage."""

from __future__ import annotations

import shutil
import subprocess
import urllib.error
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from eksgateway.clock import SystemClock
from eksgateway.errors import PolicyInvalid, PolicyUnavailable, PolicyUndefined
from eksgateway.policy.compiler.edges import compile_edges
from eksgateway.policy.factory import open_policy_engine
from eksgateway.policy.source import load_content
from eksgateway.settings import OpaPolicySettings, OpaSettings, PolicySettings
from support.bundles import bundle_of
from support.opa import EXAMPLE_DATA, POLICIES, OpaServer, compile_index, run_opa, write_compiled
from support.questions import at_request, caller

NO_GRANTS: dict[str, Any] = {"eksgateway": {"grants": []}}
ALICE = at_request(caller("jwt:corp:alice", "corp:platform"))


@pytest.fixture
def bundle(tmp_path: Path) -> Iterator[OpaServer]:
    """An OPA with a bundle that has a revision."""
    archive = tmp_path / "gateway.tar.gz"
    tree = shutil.copytree(POLICIES / "eksgateway", tmp_path / "tree")
    write_compiled({"eksgateway": load_content(EXAMPLE_DATA)}, tree / "data.json")
    build = ["opa", "build", "--bundle", "--revision", "v7", "--output", str(archive), str(tree)]
    subprocess.run(build, check=True, capture_output=True)
    with run_opa(archive, log=tmp_path / "opa.log", arguments=["--bundle"]) as server:
        yield server


def _settings(url: str, bundle: str = "") -> PolicySettings:
    return OpaPolicySettings(opa=OpaSettings(url=url, bundle=bundle))


async def test_the_decision_has_the_bundles_revision(bundle: OpaServer, tmp_path: Path) -> None:
    name = str(tmp_path / "gateway.tar.gz")
    engine = await open_policy_engine(_settings(bundle.url, name), SystemClock())
    try:
        await engine.check()
        decision = await engine.decide(ALICE)
        assert decision.allowed
        assert engine.revision == decision.policy_revision == f"{name}=v7"
    finally:
        await engine.close()


async def test_check_fails_with_another_bundle(bundle: OpaServer) -> None:
    engine = await open_policy_engine(_settings(bundle.url, "another"), SystemClock())
    try:
        with pytest.raises(PolicyUnavailable):
            await engine.check()
    finally:
        await engine.close()


async def test_the_hash_of_plain_data_is_the_revision(tmp_path: Path) -> None:
    """Without an OPA nothing is decided."""
    with run_opa(log=tmp_path / "opa.log") as server:
        engine = await open_policy_engine(_settings(server.url), SystemClock())
        try:
            await engine.check()
            before = engine.revision
            assert (await engine.decide(ALICE)).allowed
            server.put("eksgateway/index", compile_index(NO_GRANTS))
            await engine.check()
            assert engine.revision not in ("", before)
            assert not (await engine.decide(ALICE)).allowed
            server.stop()
            with pytest.raises(PolicyUnavailable):
                await engine.decide(ALICE)
        finally:
            await engine.close()


async def test_next_change_follows_the_data(tmp_path: Path) -> None:
    now = datetime(2026, 11, 22, tzinfo=UTC)
    with run_opa(log=tmp_path / "opa.log") as server:
        engine = await open_policy_engine(_settings(server.url), SystemClock())
        try:
            await engine.check()
            assert engine.next_change(now) == datetime(
                2026, 11, 22, 23, tzinfo=UTC
            )  # the weekend's end in Berlin
            freeze = {"from": "2026-11-01T00:00:00Z", "until": "2026-12-01T06:00:00Z"}
            data = {"eksgateway": {"grants": [], "freezes": [{"id": "f", "clusters": ["*"], **freeze}]}}
            server.put("eksgateway/index", compile_index(data))
            await engine.check()
            assert engine.next_change(now) == datetime(2026, 12, 1, 6, tzinfo=UTC)
            server.put("eksgateway/index", compile_index(NO_GRANTS))
            await engine.check()
            assert engine.next_change(now) is None
        finally:
            await engine.close()


async def test_edges_at_their_limit_are_read(tmp_path: Path) -> None:
    """OPA's answer has them all."""
    first = datetime(2027, 1, 1, tzinfo=UTC)
    times = [first + timedelta(seconds=61 * number) for number in range(20_000)]
    freezes = [{"until": f"{time:%Y-%m-%dT%H:%M:%SZ}"} for time in times]
    edges = compile_edges({"grants": [], "denials": [], "freezes": freezes})
    with run_opa(log=tmp_path / "opa.log") as server:
        server.put("eksgateway/index/edges", edges)
        engine = await open_policy_engine(_settings(server.url), SystemClock())
        try:
            await engine.check()
            assert engine.next_change(times[-2]) == times[-1]
            assert engine.next_change(first - timedelta(days=1)) == first
        finally:
            await engine.close()


async def test_check_fails_without_the_policy(tmp_path: Path) -> None:
    """The engine opens all the same."""
    with run_opa(EXAMPLE_DATA, log=tmp_path / "opa.log") as server:
        engine = await open_policy_engine(_settings(server.url), SystemClock())
        try:
            with pytest.raises(PolicyUndefined):
                await engine.check()
        finally:
            await engine.close()


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "raw-beside": ({"eksgateway/grants": []}, "beside the compiled policy"),
    "raw-sets-beside": ({"eksgateway/sets": {}}, "beside the compiled policy"),
    "no-index": ({"eksgateway/index": {}}, "load a bundle made by `eksgateway policy bundle`"),
    "another-form": ({"eksgateway/index/form": "eksgateway-index/2"}, "has another form"),
    "lost-freezes": ({"eksgateway/index/freezes": {}}, "Parts of the compiled policy are missing"),
    "lost-denials": ({"eksgateway/index/denials": {}}, "Parts of the compiled policy are missing"),
    "another-revision": (
        {"eksgateway/index/revision": "sha256:0"},
        "Parts of the compiled policy are missing",
    ),
}


@pytest.mark.parametrize(("changes", "text"), FAULTS.values(), ids=FAULTS)
async def test_data_that_is_not_a_whole_compiled_policy_is_reported(
    changes: dict[str, Any], text: str, tmp_path: Path
) -> None:
    """Calls are unavailable rather than denied, until it is corrected."""
    whole = compile_index({"eksgateway": load_content(EXAMPLE_DATA)})
    with run_opa(log=tmp_path / "opa.log") as server:
        engine = await open_policy_engine(_settings(server.url), SystemClock())
        try:
            await engine.check()
            for path, value in changes.items():
                server.put(path, value)
            for fails in (engine.check(), engine.decide(ALICE)):
                with pytest.raises(PolicyUnavailable) as caught:
                    await fails
                assert text in str(caught.value.detail)
            for path in changes:
                server.remove(path)
            server.put("eksgateway/index", whole)
            await engine.check()
            assert (await engine.decide(ALICE)).allowed
        finally:
            await engine.close()


async def test_a_file_of_operators_is_no_policy_of_an_opa(tmp_path: Path) -> None:
    with run_opa(POLICIES / "eksgateway", EXAMPLE_DATA, log=tmp_path / "opa.log") as server:
        engine = await open_policy_engine(_settings(server.url), SystemClock())
        try:
            with pytest.raises(PolicyUnavailable) as caught:
                await engine.check()
            assert "eksgateway policy bundle" in str(caught.value.detail)
        finally:
            await engine.close()


async def test_an_opa_whose_authorization_refuses_has_it_reported(tmp_path: Path) -> None:
    (tmp_path / "authz.rego").write_text("package system.authz\n\ndefault allow := false\n")
    sources = (POLICIES / "eksgateway", tmp_path / "authz.rego")
    log, closed = tmp_path / "opa.log", ("--authorization", "basic")
    with run_opa(*sources, log=log, arguments=closed) as server:
        engine = await open_policy_engine(_settings(server.url), SystemClock())
        try:
            with pytest.raises(PolicyInvalid) as caught:
                await engine.check()
            assert "refuses POST /v1/data/eksgateway/revision/hash: allow it" in str(caught.value.detail)
        finally:
            await engine.close()


async def test_an_opa_without_authorization_keeps_data_from_its_bundles_root(tmp_path: Path) -> None:
    """By the root in the bundle's manifest."""
    archive = tmp_path / "bundle.tar.gz"
    archive.write_bytes(bundle_of({"eksgateway": {"grants": []}}))
    with run_opa(archive, log=tmp_path / "opa.log", arguments=["--bundle"]) as server:
        for path in ("eksgateway", "eksgateway/index", "eksgateway/grants", "eksgateway/other"):
            with pytest.raises(urllib.error.HTTPError) as caught:
                server.put(path, {})
            assert "owned by bundle" in caught.value.read().decode()
            caught.value.close()
