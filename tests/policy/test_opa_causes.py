"""Why an OPA is not ready or stays at an older policy: faults of its data, its authorization, its bundles."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from eksgateway.clock import SystemClock
from eksgateway.errors import GatewayError, PolicyInvalid, PolicyUnavailable, PolicyUndefined
from eksgateway.policy.opa import OpaEngine
from eksgateway.settings import OpaSettings
from support.clock import FakeClock
from support.fake_opa import ALLOW, FakeOpa, OpaAnswer, make_result, serve_answers
from support.logs import capture_logs
from support.questions import at_request, caller
from support.waiting import wait_until

ALICE = at_request(caller("jwt:corp:alice", "corp:platform"))
DENY = {"allow": False, "reasons": ["No."], "rules": [], "obligations": []}
LOADED = {"bundles": {"eksgateway": {"revision": "1"}}}
OTHER = {"bundles": {"other": {"revision": "1"}}}
NEVER = "0001-01-01T00:00:00Z"
ONCE = "2026-11-29T11:26:04Z"


@pytest.fixture
async def fake() -> AsyncIterator[FakeOpa]:
    async with serve_answers(make_result("hash")) as server:
        server.decide = lambda _: make_result(ALLOW)
        server.at["/edges"] = make_result([])
        yield server


async def _open(fake: FakeOpa, bundle: str = "") -> OpaEngine:
    return await OpaEngine.open(OpaSettings(url=fake.url, bundle=bundle), SystemClock(), timeout_s=20)


async def _check_fails(fake: FakeOpa, bundle: str = "") -> GatewayError:
    engine = await _open(fake, bundle)
    try:
        with pytest.raises(GatewayError) as caught:
            await engine.check()
        return caught.value
    finally:
        await engine.close()


def _status(**bundles: dict[str, Any]) -> OpaAnswer:
    return make_result({"bundles": bundles})


def _failure(message: str, *, since: str = NEVER, **members: Any) -> dict[str, Any]:
    return {"code": "bundle_error", "message": message, "last_successful_activation": since, **members}


async def test_a_fault_of_the_data_makes_denials_unavailable(fake: FakeOpa) -> None:
    """The policy denies everything then, for it cannot decide."""
    fake.at["/fault"] = make_result("The data is raw: load a bundle.")
    fake.decide = lambda _: make_result(DENY)
    error = await _check_fails(fake)
    assert type(error) is PolicyUnavailable
    assert error.detail == "The data is raw: load a bundle."


async def test_a_fault_that_has_passed_is_forgotten(fake: FakeOpa) -> None:
    fake.at["/fault"] = make_result("The data is raw.")
    fake.decide = lambda _: make_result(DENY)
    engine = await _open(fake)
    try:
        with pytest.raises(PolicyUnavailable):
            await engine.check()
        fake.at["/fault"] = OpaAnswer()
        await engine.check()
        assert not (await engine.decide(ALICE)).allowed
    finally:
        await engine.close()


async def test_an_allow_stands_beside_an_older_fault(fake: FakeOpa) -> None:
    """OPA has loaded another bundle since the last poll."""
    fake.at["/fault"] = make_result("The data is raw.")
    engine = await _open(fake)
    try:
        await engine.check()
        assert (await engine.decide(ALICE)).allowed
    finally:
        await engine.close()


@pytest.mark.parametrize("answer", [OpaAnswer(), OpaAnswer(b"{}", 401), make_result(7), make_result("")])
async def test_a_policy_without_a_readable_fault_has_none(fake: FakeOpa, answer: OpaAnswer) -> None:
    """Custom policies need not have the rule, nor an OPA's authorization allow it."""
    fake.at["/fault"] = answer
    fake.decide = lambda _: make_result(DENY)
    engine = await _open(fake)
    try:
        await engine.check()
    finally:
        await engine.close()


async def test_a_refusal_by_opas_authorization_names_what_to_allow(fake: FakeOpa) -> None:
    fake.decide = lambda _: OpaAnswer(b'{"code": "unauthorized"}', 401)
    error = await _check_fails(fake)
    assert type(error) is PolicyInvalid
    assert "POST /v1/data/eksgateway/authz/decision: allow it in system.authz" in str(error.detail)


async def test_an_opa_without_the_policy_has_the_bundle_to_load_in_its_cause(fake: FakeOpa) -> None:
    fake.decide = lambda _: OpaAnswer()
    error = await _check_fails(fake)
    assert type(error) is PolicyUndefined
    assert "eksgateway policy bundle" in str(error.detail)


async def test_an_opa_without_the_policy_has_its_failed_bundles_in_its_cause(fake: FakeOpa) -> None:
    """Also without the setting ``policy.opa.bundle``."""
    fake.decide = lambda _: OpaAnswer()
    fake.status = _status(mine=_failure("bundle missing .signatures.json file"), other={})
    error = await _check_fails(fake)
    assert type(error) is PolicyUndefined
    assert "mine: bundle missing .signatures.json file (sign the bundle" in str(error.detail)


BUNDLES: dict[str, tuple[OpaAnswer, tuple[str, ...]]] = {
    "unsigned": (
        _status(eksgateway=_failure("bundle missing .signatures.json file")),
        ("missing .signatures.json", "--signing-key"),
    ),
    "another key": (
        _status(eksgateway=_failure("failed to verify JWT signature: invalid ECDSA signature")),
        ("failed to verify", "OPA's `keys`"),
    ),
    "tampered": (
        _status(eksgateway=_failure("data.json: digest mismatch (want: 1, got: 2)")),
        ("digest mismatch", "make it again"),
    ),
    "server away": (
        _status(eksgateway=_failure("request failed: connection refused")),
        ("connection refused", "`services`"),
    ),
    "does not compile": (
        _status(eksgateway=_failure("error(s) occurred", errors=[{"message": "var x is unsafe"}])),
        ("error(s) occurred: var x is unsafe", "OPA's log"),
    ),
    "starting": (_status(eksgateway={"name": "eksgateway"}), ("just started",)),
    "another name": (_status(gateway={}, more={}), ("has gateway, more", "policy.opa.bundle")),
    "none": (make_result({}), ("has none",)),
    "no status": (OpaAnswer(b'{"code": "internal_error"}', 500), ("its log has the cause", "`status`")),
    "status refused": (OpaAnswer(b"{}", 401), ("its log has the cause",)),
    "odd status": (make_result({"bundles": {"eksgateway": {"code": 7, "errors": 3}}}), ("7 (OPA's log",)),
    "a list": (make_result([]), ("has none",)),
    "html": (OpaAnswer(b"<html>"), ("its log has the cause",)),
    "long": (_status(eksgateway=_failure("x" * 5000)), ("x" * 400,)),
}


@pytest.mark.parametrize(("status", "parts"), BUNDLES.values(), ids=BUNDLES)
async def test_a_bundle_that_is_not_loaded_has_its_cause_and_remedy(
    fake: FakeOpa, status: OpaAnswer, parts: tuple[str, ...]
) -> None:
    fake.answers, fake.status = [make_result("hash", provenance=OTHER)], status
    error = await _check_fails(fake, "eksgateway")
    assert type(error) is PolicyUnavailable
    assert "bundle 'eksgateway'" in str(error.detail)
    assert len(str(error.detail)) < 700
    for part in parts:
        assert part in str(error.detail)


async def test_a_refused_bundle_is_logged_and_counted_while_the_older_one_decides(fake: FakeOpa) -> None:
    """Once for each cause, and its end. Readiness stays on."""
    fake.answers = [make_result("hash", provenance=LOADED)]
    fake.decide = lambda _: make_result(ALLOW, provenance=LOADED)
    fake.status = _status(eksgateway=_failure("digest mismatch", since=ONCE))
    clock = FakeClock()
    with capture_logs() as logs:
        engine = await OpaEngine.open(OpaSettings(url=fake.url, bundle="eksgateway"), clock, timeout_s=20)

        def events() -> list[str]:
            return [each["event"] for each in logs if each["event"].startswith("policy.bundle_")]

        async def advance_until(*expected: str) -> None:
            for _ in range(100):
                if events() == list(expected):
                    return
                await clock.advance(1.5)
                await wait_until(lambda: bool(clock.sleepers))
            assert events() == list(expected)

        try:
            await advance_until("policy.bundle_failed")
            assert (engine.reloads.refused, engine.reloads.failing) == (1, True)
            assert "make it again" in next(each["detail"] for each in logs if each["event"] == events()[0])
            await engine.check()
            for port in (40001, 40002):  # one failure
                reset = f"request failed: read tcp 10.0.0.1:{port}->10.0.0.2:443: connection reset"
                fake.status = _status(eksgateway=_failure(reset, since=ONCE))
                await advance_until(*["policy.bundle_failed"] * 2)
                await clock.advance(20)
            no_news = (
                OpaAnswer(b"{}", 401),
                _status(),
                _status(eksgateway={"name": "eksgateway"}),  # OPA was started again
                _status(eksgateway=_failure("request failed: connection refused")),
            )
            for fake.status in no_news:
                await clock.advance(20)
                await wait_until(lambda: bool(clock.sleepers))
            assert engine.reloads.failing is False  # no older bundle is in force
            assert events() == ["policy.bundle_failed"] * 2
            fake.status = _status(eksgateway={"last_successful_activation": ONCE})
            await advance_until(*["policy.bundle_failed"] * 2, "policy.bundle_recovered")
            assert (engine.reloads.refused, engine.reloads.failing) == (2, False)
        finally:
            await engine.close()


async def test_a_bundle_that_was_never_loaded_is_no_failed_reload(fake: FakeOpa) -> None:
    """Readiness reports it."""
    fake.answers = [make_result("hash", provenance=OTHER)]
    fake.status = _status(eksgateway=_failure("digest mismatch"), other=_failure("gone", since=ONCE))
    with capture_logs() as logs:
        await _check_fails(fake, "eksgateway")
    assert "policy.bundle_failed" not in [each["event"] for each in logs]
