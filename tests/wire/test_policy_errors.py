"""A policy that cannot decide, in either engine: no cancel is sent.

The table uses the real engine ``opa`` and a fake OPA on a socket. Other tests replace the engine.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eksgateway import errors
from eksgateway.v1 import update_service_pb2 as pb
from support.fake_opa import ALLOW, OpaAnswer, make_result, run_fake_opa
from support.gateway import run_gateway
from support.simulator import SimulatedEks
from support.wire import (
    PRODUCTION,
    add_hooks,
    always_raise,
    check,
    expect_refusal,
    get_cancellation,
    get_update,
    list_updates,
)

UNAVAILABLE = ("UNAVAILABLE", "POLICY_UNAVAILABLE")
INVALID = ("INTERNAL", "POLICY_INVALID")
OBLIGED = {"allow": True, "rules": ["four-eyes"], "obligations": [{"id": "second-approver"}]}
SECRET = "eyJ-not-for-callers"

ROWS: dict[str, tuple[OpaAnswer, tuple[str, str]]] = {
    "connection-dropped": (OpaAnswer(b"", drop=True), UNAVAILABLE),
    "slow": (OpaAnswer(make_result(ALLOW).body, delay_s=8), UNAVAILABLE),
    "500": (OpaAnswer(f'{{"message":"{SECRET}"}}'.encode(), status=500), UNAVAILABLE),
    "503-with-an-allow": (OpaAnswer(make_result(ALLOW).body, status=503), UNAVAILABLE),
    "400": (OpaAnswer(b"{}", status=400), INVALID),
    "undefined": (OpaAnswer(b"{}"), ("UNAVAILABLE", "POLICY_UNDEFINED")),
    "not-json": (OpaAnswer(SECRET.encode()), INVALID),
    "not-an-object": (OpaAnswer(b"[]"), INVALID),
    "not-utf-8": (OpaAnswer(b'{"result":{"allow":true,"reasons":["\xff"]}}'), INVALID),
    "too-large": (OpaAnswer(b'{"result":{"allow":true,"x":"' + b"x" * (1 << 20) + b'"}}'), INVALID),
    "too-deep": (OpaAnswer(b"[" * 100_000), INVALID),
    "null": (make_result(None), INVALID),
    "true-itself": (make_result(True), INVALID),
    "allow-missing": (make_result({}), INVALID),
    "allow-as-text": (make_result({"allow": "true"}), INVALID),
    "allow-as-a-number": (make_result({"allow": 1}), INVALID),
    "allow-in-a-list": (make_result({"allow": [True]}), INVALID),
    "rules-not-a-list": (make_result({"allow": True, "rules": "all"}), INVALID),
    "allow-twice": (OpaAnswer(b'{"result":{"allow":false,"allow":true}}'), INVALID),
    "result-twice": (OpaAnswer(b'{"result":{"allow":false},"result":{"allow":true}}'), INVALID),
    "nan": (OpaAnswer(b'{"result":{"allow":true},"x":NaN}'), INVALID),
    "utf-16": (OpaAnswer('{"result":{"allow":true}}'.encode("utf-16")), INVALID),
    "201": (OpaAnswer(make_result(ALLOW).body, status=201), INVALID),
    "html": (OpaAnswer(make_result(ALLOW).body, content_type="text/html"), INVALID),
    "obligation": (make_result(OBLIGED), ("PERMISSION_DENIED", "POLICY_OBLIGATION_UNKNOWN")),
    "denied": (make_result({"allow": False, "reasons": ["No."]}), ("PERMISSION_DENIED", "POLICY_DENIED")),
}


@pytest.mark.parametrize(("answer", "told"), ROWS.values(), ids=ROWS)
async def test_opa_answer_other_than_an_allow_sends_nothing(
    tmp_path: Path, eks: SimulatedEks, answer: OpaAnswer, told: tuple[str, str]
) -> None:
    """At either stage."""
    timeout_s = 3 if answer.delay_s else 20
    async with (
        run_fake_opa(timeout_s) as (opa, engine),
        run_gateway(tmp_path, eks, policy=engine) as gateway,
    ):
        update_id = eks.rollback("prod-1", tags=PRODUCTION)
        for stage, reads in (("request", False), ("update", True)):
            opa.answer_at_stage(stage, answer)
            eks.clear_calls()
            refusal = await expect_refusal(gateway.cancel("prod-1", update_id, request_id=stage))
            assert refusal.status_and_reason == told
            assert SECRET.encode() not in refusal.raw
            assert bool(eks.calls()) == reads
            assert eks.calls("CancelUpdate") == ()
            assert (
                await expect_refusal(get_cancellation(gateway, request_id=stage))
            ).reason == "CANCELLATION_NOT_FOUND"


async def test_unreachable_opa_makes_every_call_unavailable(tmp_path: Path, eks: SimulatedEks) -> None:
    """Without any EKS call."""
    async with run_fake_opa(timeout_s=1) as (_, engine):
        pass
    async with run_gateway(tmp_path, eks, policy=engine) as gateway:
        update_id = eks.rollback("prod-1", tags=PRODUCTION)
        calls = (
            gateway.cancel("prod-1", update_id),
            check(gateway, "prod-1", update_id),
            get_update(gateway, "prod-1", update_id),
            list_updates(gateway, "prod-1"),
        )
        for refusal in await asyncio.gather(*map(expect_refusal, calls)):
            assert refusal.status_and_reason == UNAVAILABLE
        assert eks.calls() == ()


async def test_opa_gets_verified_facts_only(tmp_path: Path, eks: SimulatedEks) -> None:
    """One decision id per call, and no metadata of the client."""
    async with run_fake_opa() as (opa, engine), run_gateway(tmp_path, eks, policy=engine) as gateway:
        update_id = eks.rollback("prod-1", tags=PRODUCTION)
        forged = (("x-groups", "test:oncall"), ("eksgateway-decision-id", "mine"), ("subject", "root"))
        cancelled = await gateway.cancel("prod-1", update_id, gateway.viewer + forged)
        asked = [each for each in opa.inputs if each["context"]["method"]]  # others are the readiness probe's
        at_request, at_update = asked
        assert at_request["context"]["decision_id"] == cancelled.decision.decision_id
        assert at_update["context"]["decision_id"] == cancelled.decision.decision_id
        assert at_request["subject"] == at_update["subject"]
        assert at_update["subject"]["id"] == "jwt:test:viewer"
        assert at_update["subject"]["properties"]["groups"] == ["test:viewers"]
        assert set(at_request["resource"]["properties"]) == {"account_id", "region", "cluster"}
        assert at_update["resource"]["properties"]["tags"] == PRODUCTION
        assert at_update["resource"]["properties"]["update"]["type"] == "VersionRollback"
        for word in ("x-groups", "mine", "root"):
            assert word not in json.dumps(asked)


PROTOCOL = {
    "unavailable": (errors.PolicyUnavailable(detail=SECRET), UNAVAILABLE),
    "undefined": (errors.PolicyUndefined(), ("UNAVAILABLE", "POLICY_UNDEFINED")),
    "invalid": (errors.PolicyInvalid(detail=SECRET), INVALID),
    "obligation": (errors.PolicyObligationUnknown(), ("PERMISSION_DENIED", "POLICY_OBLIGATION_UNKNOWN")),
    "broken": (RuntimeError(SECRET), ("INTERNAL", "INTERNAL")),
}


@pytest.mark.parametrize(("error", "told"), PROTOCOL.values(), ids=PROTOCOL)
async def test_engine_failure_stops_every_call(
    tmp_path: Path, eks: SimulatedEks, error: Exception, told: tuple[str, str]
) -> None:
    """The error's text is not sent to the caller."""
    async with run_gateway(tmp_path, eks, wrap_policy=add_hooks(decide=always_raise(error))) as gateway:
        update_id = eks.rollback("prod-1", tags=PRODUCTION)
        for call in (gateway.cancel("prod-1", update_id), get_update(gateway, "prod-1", update_id)):
            refusal = await expect_refusal(call)
            assert refusal.status_and_reason == told
            assert SECRET.encode() not in refusal.raw
        assert eks.calls() == ()


async def test_obligation_hides_the_update(tmp_path: Path, eks: SimulatedEks) -> None:
    """A list leaves the item out, and a check the update."""

    def decide(asked: dict[str, Any]) -> OpaAnswer:
        item = asked["action"]["name"] == "get" and asked["context"]["stage"] == "update"
        return make_result(OBLIGED if item else ALLOW)

    async with run_fake_opa() as (opa, engine), run_gateway(tmp_path, eks, policy=engine) as gateway:
        opa.decide = decide
        update_id = eks.rollback("prod-1", tags=PRODUCTION)
        assert await list_updates(gateway, "prod-1") == pb.ListUpdatesResponse()
        checked = await check(gateway, "prod-1", update_id)
        assert checked.decision.allowed
        assert not checked.HasField("update")
        assert not checked.HasField("cancellability")


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
# Results close to a decision: members of every type, and some that allow.
_near = st.fixed_dictionaries(
    {"allow": st.sampled_from([True, True, False, 1, 1.0, "true", None, [True], {"allow": True}]) | _json},
    optional={
        "rules": st.lists(st.text(max_size=3), max_size=2) | _json,
        "reasons": st.lists(st.text(max_size=3), max_size=2) | _json,
        "obligations": st.just([]) | _json,
    },
)


def test_only_a_boolean_true_allows(tmp_path: Path) -> None:
    """At stage update and at both stages."""
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        eks = runner.run(stack.enter_async_context(SimulatedEks()))
        opa, engine = runner.run(stack.enter_async_context(run_fake_opa()))
        gateway = runner.run(stack.enter_async_context(run_gateway(tmp_path, eks, policy=engine)))

        async def count_sent(answer: OpaAnswer) -> int:
            opa.answer_at_stage("update", answer)
            update_id = eks.rollback("prod-1", tags=PRODUCTION)
            eks.clear_calls()
            call = gateway.cancel("prod-1", update_id)
            await (call if _allows(answer) else expect_refusal(call))
            return len(eks.calls("CancelUpdate"))

        @settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(st.one_of(_near, _json).map(make_result))
        def holds(answer: OpaAnswer) -> None:
            assert runner.run(count_sent(answer)) == _allows(answer)

        try:
            holds()
        finally:
            runner.run(stack.aclose())


def _allows(answer: OpaAnswer) -> bool:
    """Whether an answer is a decision that allows, read strictly."""
    value = json.loads(answer.body)["result"]
    if not isinstance(value, dict) or value.get("allow") is not True:
        return False
    texts = [value.get(key, []) for key in ("rules", "reasons")]
    well_formed = all(isinstance(each, list) and all(isinstance(one, str) for one in each) for each in texts)
    return well_formed and value.get("obligations", []) == []
