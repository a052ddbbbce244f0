"""Sizes of credentials and names, and log lines of refused credentials."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import grpc
import pytest

from eksgateway.v1 import cancellation_pb2 as cpb
from support.errors import decode_details
from support.gateway import RunningGateway, run_gateway
from support.logs import capture_logs
from support.simulator import SimulatedEks
from support.tokens import Idp, compact, ec_key, signer
from support.waiting import wait_until
from support.wire import check, expect_refusal, get_cancellation, list_cancellations

GROUPS = [str(uuid.UUID(int=number)) for number in range(250)]


def size(credentials: Any) -> int:
    return len(dict(credentials)["authorization"])


async def test_token_with_250_groups_works_by_default(gateway: RunningGateway) -> None:
    """14 KB, beside the largest allowed metadata."""
    update_id = gateway.eks.rollback("staging-1")
    large = gateway.credentials("large", *GROUPS, "oncall")
    assert 13_000 < size(large) < 16_000
    others = tuple((f"x-trace-{number}", "t" * 1000) for number in range(7))
    outcome = await gateway.cancel("staging-1", update_id, who=(*large, *others))
    assert outcome.phase == cpb.CANCELLATION_PHASE_CANCELLING


@pytest.mark.parametrize("characters", [33_000, 60_000, 150_000])
async def test_credentials_over_the_limit_are_invalid(gateway: RunningGateway, characters: int) -> None:
    """Also a valid token; clients do not repeat this error."""
    good = gateway.credentials("large", "oncall", note="n" * (characters * 3 // 4))
    for credentials in (good, (("authorization", "x" * characters),)):
        refusal = await expect_refusal(check(gateway, "staging-1", "u", who=credentials))
        assert refusal.status_and_reason == ("UNAUTHENTICATED", "CREDENTIALS_INVALID")
        assert refusal.metadata == {"check": "size"}
        assert refusal.message == "The credentials are over 32768 bytes."


async def test_credentials_bytes_alone_sets_the_limit(tmp_path: Path, eks: SimulatedEks) -> None:
    """Other metadata keeps its own limit."""
    update_id = eks.rollback("staging-1")
    async with run_gateway(
        tmp_path, eks, limits={"credentials_bytes": 100_000, "metadata_bytes": 500}
    ) as gateway:
        large = gateway.credentials("large", "oncall", note="n" * 74_000)
        assert 99_000 < size(large) < 100_000 - len("authorization")
        assert (await check(gateway, "staging-1", update_id, who=large)).decision.allowed
        too_large = gateway.credentials("large", "oncall", note="n" * 75_000)
        assert (
            await expect_refusal(check(gateway, "staging-1", "u", who=too_large))
        ).reason == "CREDENTIALS_INVALID"
        beside = (*gateway.oncall, ("x-trace", "t" * 500))
        assert (
            await expect_refusal(check(gateway, "staging-1", "u", who=beside))
        ).reason == "REQUEST_TOO_LARGE"


@pytest.mark.parametrize(
    "subject",
    [f"system:serviceaccount:{'n' * 63}:{'a' * 253}", "ä" * 1024],
    ids=["Kubernetes' longest", "the longest"],
)
async def test_longest_subject_works_everywhere(tmp_path: Path, eks: SimulatedEks, subject: str) -> None:
    """Policy, ledger, role session name, history and page tokens."""
    clusters = ("staging-1", "staging-2")
    update_ids = [eks.rollback(cluster) for cluster in clusters]
    async with run_gateway(tmp_path, eks) as gateway:
        who, caller = gateway.credentials(subject, "oncall"), f"jwt:test:{subject}"
        for number, (cluster, update_id) in enumerate(zip(clusters, update_ids, strict=True)):
            outcome = await gateway.cancel(cluster, update_id, who=who, request_id=f"r-{number}")
            assert outcome.caller == caller
        assert (await get_cancellation(gateway, who, request_id="r-0")).caller == caller
        page = await list_cancellations(gateway, who, caller=caller, page_size=1)
        more = await list_cancellations(
            gateway, who, caller=caller, page_size=1, page_token=page.next_page_token
        )
        assert [each.request_id for each in (*page.cancellations, *more.cancellations)] == ["r-1", "r-0"]
        stream = gateway.watch("staging-1", update_ids[0], who=who)
        resume = (await stream.read()).resume_token
        stream.cancel()
        again = gateway.watch("staging-1", update_ids[0], who=who, resume_token=resume)
        await again.read()
        again.cancel()


async def test_refused_credentials_log_issuer_and_check_only(
    gateway: RunningGateway,
) -> None:
    """One line per call, without any part of the token."""
    corp = Idp(name="test", issuer=gateway.issuer.issuer)
    other = Idp(name="secret-canary", issuer="https://secret-canary.example")
    now = gateway.gateway.clock.now()
    forged = compact(
        {"alg": "ES256", "kid": "kid-canary"},
        corp.claims(now, sub="sub-canary"),
        signer(ec_key("x"), "ES256"),
    )
    cases: list[tuple[str, str | None, Any]] = [
        ("iss", None, other.token(now)),
        ("kid", "test", forged),
        ("alg", "test", compact({"alg": "RS256"}, corp.claims(now), lambda _: b"signature-canary")),
        ("form", None, "form-canary"),
        ("size", None, "size-canary" * 4000),
        ("aud", "test", dict(gateway.credentials("sub-canary", aud="aud-canary"))["authorization"][7:]),
        ("exp", "test", dict(gateway.credentials("sub-canary", exp=1))["authorization"][7:]),
        ("sub", "test", dict(gateway.credentials("", "group-canary"))["authorization"][7:]),
    ]
    with capture_logs() as logged:
        for _, _, token in cases:
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await check(gateway, "staging-1", "u", who=(("authorization", f"Bearer {token}"),))
            assert "issuer" not in repr(decode_details(error.value)).replace("token's issuer", "")
        await expect_refusal(check(gateway, "staging-1", "u", who=(("x-none", "none"),)))
        # The last line may come after its answer.
        await wait_until(lambda: sum(line["event"] == "rpc.call" for line in logged) > len(cases))
    calls = [line for line in logged if line["event"] == "rpc.call"]
    assert [(line.get("check"), line.get("issuer")) for line in calls] == [
        *((name, issuer) for name, issuer, _ in cases),
        (None, None),
    ]
    assert "canary" not in json.dumps(logged, default=repr)
    assert {line["event"] for line in logged} <= {"rpc.call", "health.readiness"}


async def test_dropped_groups_are_counted(tmp_path: Path, eks: SimulatedEks) -> None:
    """By issuer and cause."""
    async with run_gateway(tmp_path, eks) as gateway:
        gateway.eks.rollback("staging-1")
        who = gateway.credentials("odd", "oncall", "", "a\u00a0b")
        await expect_refusal(check(gateway, "staging-1", "no-such-update", who=who))
        registry = gateway.gateway.metrics.registry
        dropped = {"issuer": "test", "why": "unusable"}
        assert registry.get_sample_value("eksgateway_identity_groups_dropped_total", dropped) == 2
