"""The engine for an OPA server: its queries, and every kind of response."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eksgateway.clock import Clock, SystemClock
from eksgateway.errors import (
    GatewayError,
    PolicyInvalid,
    PolicyUnavailable,
    PolicyUndefined,
)
from eksgateway.model import ClusterRef, Justification, Obligation
from eksgateway.policy.opa import OpaEngine
from eksgateway.settings import OpaSettings
from support.clock import FakeClock
from support.fake_opa import FakeOpa, OpaAnswer, make_result, serve_answers
from support.logs import capture_logs
from support.questions import at_request, caller

ALICE = at_request(caller("jwt:corp:alice", "corp:platform"))
ALLOW = {"allow": True, "rules": ["a"], "reasons": [], "obligations": []}
Open = Callable[..., Awaitable[OpaEngine]]


@pytest.fixture
async def fake() -> AsyncIterator[FakeOpa]:
    async with serve_answers() as server:
        yield server


@pytest.fixture
async def connect() -> AsyncIterator[Open]:
    """Opens engines that are closed at the end. Their clock stands still by default."""
    async with AsyncExitStack() as stack:

        async def open_(
            url: str, *, bundle: str = "", timeout_s: float = 5, clock: Clock | None = None
        ) -> OpaEngine:
            configured = OpaSettings(url=url, bundle=bundle, poll_s=2)
            engine = await OpaEngine.open(configured, clock or FakeClock(), timeout_s=timeout_s)
            stack.push_async_callback(engine.close)
            return engine

        yield open_


async def test_queries_go_to_fixed_paths(fake: FakeOpa, connect: Open) -> None:
    """No part of a path comes from the question. The response's revision is the decision's."""
    fake.answers = [
        make_result(ALLOW, provenance={"bundles": {"b": {"revision": "7"}, "a": {"revision": "x"}}})
    ]
    engine = await connect(fake.url)
    evil = replace(
        ALICE, cluster=ClusterRef("../..", "?q=1", "../../v1/policies"), justification=Justification("/x")
    )
    decision = await engine.decide(evil)
    assert (decision.allowed, decision.rule_ids, decision.policy_revision) == (True, ("a",), "a=x,b=7")
    assert set(fake.paths) <= {
        "/v1/data/eksgateway/authz/decision?provenance=true",
        "/v1/data/eksgateway/revision/hash?provenance=true",
        "/v1/data/eksgateway/revision/edges?provenance=true",
        "/v1/data/eksgateway/revision/fault?provenance=true",
    }
    assert evil.to_input() in fake.inputs


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "Application/JSON; charset=UTF-8", 'application/json;charset="utf-8"'],
)
async def test_every_spelling_of_the_json_content_type_is_accepted(
    fake: FakeOpa, connect: Open, content_type: str
) -> None:
    fake.answers = [OpaAnswer(make_result(ALLOW).body, content_type=content_type)]
    assert (await (await connect(fake.url)).decide(ALICE)).allowed


OTHER_RESPONSES: dict[str, tuple[OpaAnswer, type[GatewayError]]] = {
    "500": (OpaAnswer(b"{}", 500), PolicyUnavailable),
    "503": (OpaAnswer(b"{}", 503), PolicyUnavailable),
    "hangs": (OpaAnswer(hangs=True), PolicyUnavailable),
    "404": (OpaAnswer(b"{}", 404), PolicyInvalid),
    "401": (OpaAnswer(b'{"code": "unauthorized"}', 401), PolicyInvalid),
    "redirect": (OpaAnswer(b"", 307, {"Location": "/v1/data/elsewhere"}), PolicyInvalid),
    "no-result": (OpaAnswer(b"{}"), PolicyUndefined),
    "empty": (OpaAnswer(b""), PolicyInvalid),
    "html": (OpaAnswer(b"<html>"), PolicyInvalid),
    "not-utf-8": (OpaAnswer(b'{"result": "\xff"}'), PolicyInvalid),
    "list": (OpaAnswer(b"[]"), PolicyInvalid),
    "deep": (OpaAnswer(b"[" * 200_000), PolicyInvalid),
    "too-large": (OpaAnswer(b'{"result": "' + b"x" * (1 << 21) + b'"}'), PolicyInvalid),
    "endless": (OpaAnswer(b" " * 65_536, endless=True), PolicyInvalid),
    "null": (make_result(None), PolicyInvalid),
    "true-alone": (make_result(True), PolicyInvalid),
    "text-true": (make_result({**ALLOW, "allow": "true"}), PolicyInvalid),
    "one": (make_result({**ALLOW, "allow": 1}), PolicyInvalid),
    "no-allow": (make_result({"rules": []}), PolicyInvalid),
    "rules-text": (make_result({**ALLOW, "rules": "a"}), PolicyInvalid),
    **{
        f"status-{status}": (OpaAnswer(make_result(ALLOW).body, status), PolicyInvalid)
        for status in (201, 202, 203, 206, 226, 300, 308, 418, 429)
    },
    **{
        f"type-{name}": (OpaAnswer(make_result(ALLOW).body, content_type=name), PolicyInvalid)
        for name in (
            "text/html",
            "text/plain; charset=utf-8",
            "application/jsonp",
            "application/json; charset=utf-16",
            "application/json, text/html",
            "application/octet-stream",
        )
    },
    "type-not-empty": (OpaAnswer(make_result(ALLOW).body, content_type=""), PolicyInvalid),
    "coded": (
        OpaAnswer(gzip.compress(make_result(ALLOW).body), headers={"Content-Encoding": "gzip"}),
        PolicyInvalid,
    ),
    "allow-twice": (OpaAnswer(b'{"result": {"allow": false, "allow": true}}'), PolicyInvalid),
    "allow-twice-the-same": (OpaAnswer(b'{"result": {"allow": true, "allow": true}}'), PolicyInvalid),
    "result-twice": (OpaAnswer(b'{"result": {"allow": false}, "result": {"allow": true}}'), PolicyInvalid),
    "twice-elsewhere": (OpaAnswer(b'{"result": {"allow": true}, "x": [{"a": 1, "a": 2}]}'), PolicyInvalid),
    "nan": (OpaAnswer(b'{"result": {"allow": true}, "x": NaN}'), PolicyInvalid),
    "infinity": (OpaAnswer(b'{"result": {"allow": true, "x": [-Infinity]}}'), PolicyInvalid),
    "huge": (OpaAnswer(b'{"result": {"allow": true, "x": 1e999}}'), PolicyInvalid),
    **{
        coding: (OpaAnswer(make_result(ALLOW).body.decode().encode(coding)), PolicyInvalid)
        for coding in ("utf-16", "utf-16-le", "utf-32", "utf-8-sig")
    },
    "two-documents": (OpaAnswer(make_result(ALLOW).body * 2), PolicyInvalid),
    "deep-inside": (OpaAnswer(b'{"result": {"allow": true}, "x": ' + b"[" * 50_000), PolicyInvalid),
    "provenance-text": (make_result(ALLOW, provenance="x"), PolicyInvalid),
    "bundles-list": (make_result(ALLOW, provenance={"bundles": []}), PolicyInvalid),
    "revision-half-a-character": (
        make_result(ALLOW, provenance={"bundles": {"a": {"revision": "\ud800"}}}),
        PolicyInvalid,
    ),
    "revision-long": (
        make_result(ALLOW, provenance={"bundles": {"a": {"revision": "7" * 3000}}}),
        PolicyInvalid,
    ),
    "bundle-number": (make_result(ALLOW, provenance={"bundles": {"a": {"revision": 5}}}), PolicyInvalid),
}


@pytest.mark.parametrize(("answer", "expected"), OTHER_RESPONSES.values(), ids=OTHER_RESPONSES.keys())
async def test_other_responses_raise_their_error_in_time(
    answer: OpaAnswer, expected: type[GatewayError], fake: FakeOpa, connect: Open
) -> None:
    engine = await connect(fake.url, timeout_s=2 if answer.hangs else 20)
    fake.answers = [answer]
    began = time.monotonic()
    with pytest.raises(expected) as caught:
        await engine.decide(ALICE)
    assert type(caught.value) is expected
    assert time.monotonic() - began < 30


async def test_an_allow_under_obligations_does_not_allow(fake: FakeOpa, connect: Open) -> None:
    """The decision has the obligations."""
    engine = await connect(fake.url)
    fake.answers = [make_result({**ALLOW, "obligations": ["mfa"]})]
    decision = await engine.decide(ALICE)
    assert not decision.allowed
    assert decision.obligations == (Obligation("mfa"),)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    allow=st.just(True) | st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.booleans()),
    obligations=st.just([]) | st.lists(st.text()) | st.none() | st.dictionaries(st.text(), st.text()),
    status=st.sampled_from([200, 200, 200, 201, 204, 302, 400, 403, 503]),
)
def test_only_a_boolean_true_without_obligations_allows(allow: Any, obligations: Any, status: int) -> None:

    async def ask() -> bool:
        body = {"result": {"allow": allow, "obligations": obligations}}
        async with serve_answers(OpaAnswer(json.dumps(body).encode(), status)) as fake:
            engine = await OpaEngine.open(OpaSettings(url=fake.url), FakeClock(), timeout_s=5)
            try:
                return (await engine.decide(ALICE)).allowed
            except GatewayError:
                return False
            finally:
                await engine.close()

    allowed = asyncio.run(ask())
    if allow is not True or obligations != [] or status >= 300:
        assert not allowed
    elif status == 200:
        assert allowed


async def test_an_unreachable_server_is_unavailable_within_the_timeout(connect: Open) -> None:
    """The client's own retries end with it."""
    async with serve_answers() as gone:
        url = gone.url
    engine = await connect(url, timeout_s=0.5)
    began = time.monotonic()
    with pytest.raises(PolicyUnavailable):
        await engine.decide(ALICE)
    assert time.monotonic() - began < 20


async def test_a_502_is_retried_within_the_timeout(fake: FakeOpa, connect: Open) -> None:
    engine = await connect(fake.url)
    await _until(lambda: len(fake.paths) > 1)  # else the first poll gets the 502
    fake.answers = [OpaAnswer(b"", 502), make_result(ALLOW)]
    assert (await engine.decide(ALICE)).allowed
    assert len(fake.answers) == 1


async def test_the_configured_bundle_must_be_loaded(fake: FakeOpa, connect: Open) -> None:
    """Without it the engine is not ready; with it, its revision is the decision's."""
    engine = await connect(fake.url, bundle="gateway")
    for answer in (
        OpaAnswer(b"{}"),
        make_result(ALLOW),
        make_result(ALLOW, provenance={"bundles": {"other": {}}}),
    ):
        fake.answers = [answer]
        with pytest.raises(PolicyUnavailable):
            await engine.decide(ALICE)
        with pytest.raises(PolicyUnavailable):
            await engine.check()
    loaded = {"bundles": {"other": {"revision": "1"}, "gateway": {"revision": "2"}}}
    fake.answers = [make_result(ALLOW, provenance=loaded)]
    assert (await engine.decide(ALICE)).policy_revision == "gateway=2"
    fake.answers = [OpaAnswer(json.dumps({"provenance": loaded}).encode())]
    with pytest.raises(PolicyUndefined):
        await engine.decide(ALICE)


async def test_the_revision_is_polled(fake: FakeOpa, connect: Open) -> None:
    """While OPA does not answer, the last one stands."""
    fake.answers = [make_result("hash-1")]
    clock = FakeClock()
    engine = await connect(fake.url, clock=clock)
    await _until(lambda: engine.revision == "hash-1")
    asked = len(fake.paths)
    for answer, expected in [(OpaAnswer(b"", 503), "hash-1"), (make_result("hash-2"), "hash-2")]:
        fake.answers = [answer]
        await clock.advance(2.5)
        await _until(lambda asked=asked: len(fake.paths) > asked)  # type: ignore[misc]  # a default argument
        await _until(lambda expected=expected: engine.revision == expected)  # type: ignore[misc]  # likewise
        asked = len(fake.paths)


async def test_revision_after_returns_the_next_revision(fake: FakeOpa, connect: Open) -> None:
    """At the next poll, or at once after a reload. An outage is not a change."""
    fake.answers = [make_result("hash-1")]
    clock = FakeClock()
    fake.at["/edges"] = make_result([])
    engine = await connect(fake.url, clock=clock)
    assert await engine.revision_after("") == "hash-1"
    waiting = asyncio.create_task(engine.revision_after("hash-1"))
    asked = len(fake.paths)
    for answer in (OpaAnswer(b"", 503), make_result("hash-1")):
        fake.answers = [answer]
        await clock.advance(2.5)
        await _until(lambda asked=asked: len(fake.paths) > asked)  # type: ignore[misc]  # a default argument
        asked = len(fake.paths)
        await _until(lambda: bool(clock.sleepers))
        assert not waiting.done()
    fake.answers = [make_result(ALLOW, provenance={"bundles": {"b": {"revision": "2"}}})]
    engine.reload()
    assert await waiting == "b=2"
    assert (engine.reloads.loaded, engine.reloads.failing) == (2, False)
    assert engine.reloads.last == clock.now()


EDGES: dict[str, tuple[OpaAnswer, str | None]] = {
    "in any order": (
        make_result(["2026-02-01T00:00:00Z", "2026-01-05T12:00:00Z"]),
        "2026-01-05T12:00:00+00:00",
    ),
    "past": (make_result(["2025-12-31T23:59:59Z"]), None),
    "odd": (make_result(["soon", 1, None, "2026-13-01T00:00:00Z", "2026-01-09"]), None),
    "no list": (make_result("2026-01-05T12:00:00Z"), None),
    "undefined": (OpaAnswer(b"{}"), None),
    "refused": (OpaAnswer(b"{}", 401), None),
}


@pytest.mark.parametrize(("answer", "expected"), EDGES.values(), ids=EDGES)
async def test_next_change_is_the_next_time_among_edges(
    fake: FakeOpa, connect: Open, answer: OpaAnswer, expected: str | None
) -> None:
    """A custom policy may have no edges, or values that are not times."""
    fake.answers, fake.at["/edges"] = [make_result("hash-1")], answer
    clock = FakeClock()
    engine = await connect(fake.url, clock=clock)
    await _until(lambda: engine.revision == "hash-1")
    edge = engine.next_change(clock.now())
    assert (edge and edge.isoformat()) == expected


async def test_an_outage_keeps_the_edges(fake: FakeOpa, connect: Open) -> None:
    """The revision is updated nevertheless, and the edges are queried again."""
    fake.answers, fake.at["/edges"] = [make_result("hash-1")], make_result(["2026-01-05T12:00:00Z"])
    clock = FakeClock()
    engine = await connect(fake.url, clock=clock)
    await _until(lambda: engine.revision == "hash-1")
    fake.answers, fake.at["/edges"] = [make_result("hash-2")], OpaAnswer(b"", 500)
    engine.reload()
    await _until(lambda: engine.revision == "hash-2")
    assert engine.next_change(clock.now()) is not None
    fake.at["/edges"] = make_result([])
    engine.reload()
    await _until(lambda: engine.next_change(clock.now()) is None)


async def test_edges_are_queried_once_for_each_revision(fake: FakeOpa, connect: Open) -> None:
    fake.answers, fake.at["/edges"] = [make_result("hash-1")], make_result(["2026-01-05T12:00:00Z"])
    fake.decide = lambda _: make_result(ALLOW)
    engine = await connect(fake.url)
    await _until(lambda: engine.revision == "hash-1")
    for _ in range(3):
        await engine.check()
    fake.answers, fake.at["/edges"] = [make_result("hash-2")], make_result(["2026-01-06T12:00:00Z"])
    await engine.check()
    assert engine.next_change(datetime(2026, 1, 1, tzinfo=UTC)) == datetime(2026, 1, 6, 12, tzinfo=UTC)
    assert sum("/edges" in path for path in fake.paths) == 2


async def test_the_poll_times_out_soon(fake: FakeOpa, connect: Open) -> None:
    """A changed policy must end streams within five seconds."""
    fake.answers = [OpaAnswer(hangs=True), make_result("hash-1")]
    engine = await connect(fake.url, timeout_s=30, clock=SystemClock())
    async with asyncio.timeout(2 + 2):  # it polls every 2 s
        assert await engine.revision_after("") == "hash-1"


async def test_hanging_queries_do_not_block_others(fake: FakeOpa, connect: Open) -> None:
    """Reauthorization may make hundreds of them."""
    fake.at["/edges"] = fake.at["/hash"] = make_result([])
    fake.answers = [*[OpaAnswer(hangs=True)] * 300, make_result(ALLOW)]
    engine = await connect(fake.url, timeout_s=60)
    hung = [asyncio.create_task(engine.decide(ALICE)) for _ in range(300)]
    await _until(lambda: len(fake.answers) == 1)
    assert (await engine.decide(ALICE)).allowed
    for each in hung:
        each.cancel()
    await asyncio.gather(*hung, return_exceptions=True)


async def test_a_bug_does_not_end_the_poll(fake: FakeOpa, connect: Open) -> None:
    """It is logged."""
    fake.answers, fake.at["/edges"] = [make_result("hash-1")], make_result([])
    clock = FakeClock()
    engine = await connect(fake.url, clock=clock)
    await _until(lambda: engine.reloads.loaded == 1 and bool(clock.sleepers))
    engine.reloads = None  # type: ignore[assignment]  # what makes it fail
    with capture_logs() as logs:
        fake.answers = [make_result("hash-2")]
        engine.reload()
        await _until(lambda: bool(logs))
        fake.answers = [make_result("hash-3")]
        engine.reload()
        assert await engine.revision_after("hash-2") == "hash-3"
    assert logs[0]["event"] == "policy.unexpected"


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - what is waited for sets no event
            await asyncio.sleep(0.005)


async def test_a_cancelled_decision_stays_cancelled(fake: FakeOpa, connect: Open) -> None:
    """It is not reported as an outage."""
    engine = await connect(fake.url)
    fake.answers = [OpaAnswer(hangs=True)]
    asked = len(fake.paths)
    task = asyncio.create_task(engine.decide(ALICE))
    await _until(lambda: len(fake.paths) > asked)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_close_leaves_no_task(fake: FakeOpa) -> None:
    """It does not wait for OPA."""
    fake.answers = [OpaAnswer(hangs=True)]
    before = asyncio.all_tasks()
    engine = await OpaEngine.open(OpaSettings(url=fake.url), SystemClock(), timeout_s=60)
    await _until(lambda: bool(fake.paths))
    await engine.close()
    assert not {task for task in asyncio.all_tasks() - before if "policy" in task.get_name()}
