"""Errors of EKS on every reading call and on CancelUpdate."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from eksgateway.ledger.projection import OBSERVED
from eksgateway.ledger.verify import verify
from eksgateway.phases import NO_TRACE
from eksgateway.v1 import cancellation_pb2 as cpb
from support.gateway import RunningGateway, run_gateway
from support.simulator import SimulatedEks
from support.waiting import wait_until
from support.wire import (
    PRODUCTION,
    Refusal,
    check,
    expect_refusal,
    get_cancellation,
    get_update,
    list_updates,
    wait_for_phase,
)

PREFIX = "CANCELLATION_PHASE_"
SECRET = "text of EKS that may name anything"


@dataclass(frozen=True)
class Row:
    """A fault at EKS, and the errors of a reading call and of a cancel."""

    fault: dict[str, Any]
    read: tuple[str, str]
    cancel: tuple[str, str]
    phase: cpb.CancellationPhase.ValueType
    code: str = ""

    @property
    def eks_code(self) -> str:
        return self.code or str(self.fault.get("code", ""))


def _refusal(code: str, status: str, reason: str) -> Row:
    error = (status, reason)
    return Row({"code": code}, error, error, cpb.CANCELLATION_PHASE_REJECTED)


def _bad_credentials(code: str) -> Row:
    error = ("INTERNAL", "UPSTREAM_CREDENTIALS")
    fault = {"code": code, "status": 403, "message": SECRET}
    return Row(fault, error, error, cpb.CANCELLATION_PHASE_NOT_FORWARDED)


def _throttling(code: str, **fault: Any) -> Row:
    error = ("RESOURCE_EXHAUSTED", "EKS_THROTTLED")
    return Row({"code": code, **fault}, error, error, cpb.CANCELLATION_PHASE_NOT_FORWARDED)


def _no_answer(**fault: Any) -> Row:
    reading, cancel = ("UNAVAILABLE", "EKS_UNAVAILABLE"), ("UNAVAILABLE", "OUTCOME_UNKNOWN")
    return Row({"message": SECRET, **fault}, reading, cancel, cpb.CANCELLATION_PHASE_OUTCOME_UNKNOWN)


def _proxy_answer(body: str, **fault: Any) -> Row:
    """An answer of a proxy in place of EKS's."""
    return _no_answer(body=body, content_type="application/json", **fault)


ROWS = {
    "invalid-parameter": _refusal("InvalidParameterException", "INVALID_ARGUMENT", "EKS_INVALID_PARAMETER"),
    "invalid-request": _refusal("InvalidRequestException", "FAILED_PRECONDITION", "EKS_INVALID_REQUEST"),
    "invalid-state": _refusal("InvalidStateException", "FAILED_PRECONDITION", "EKS_INVALID_STATE"),
    "resource-in-use": _refusal("ResourceInUseException", "FAILED_PRECONDITION", "EKS_RESOURCE_IN_USE"),
    "client": _refusal("ClientException", "FAILED_PRECONDITION", "EKS_CLIENT_ERROR"),
    "unknown-4xx": _refusal("BrandNewException", "FAILED_PRECONDITION", "EKS_CLIENT_ERROR"),
    "not-found": _refusal("ResourceNotFoundException", "NOT_FOUND", "EKS_NOT_FOUND"),
    "throttling": _throttling("ThrottlingException"),
    "too-many": _throttling("TooManyRequestsException", status=429),
    "request-limit": _throttling("RequestLimitExceeded", status=503),
    "request-limit-in-words": _throttling("InvalidRequestException", message="Request limit exceeded."),
    "access-denied": _bad_credentials("AccessDeniedException"),
    "unrecognized-client": _bad_credentials("UnrecognizedClientException"),
    "invalid-token-id": _bad_credentials("InvalidClientTokenId"),
    "invalid-signature": _bad_credentials("InvalidSignatureException"),
    "expired-token": _bad_credentials("ExpiredTokenException"),
    "server": _no_answer(code="ServerException"),
    "service-unavailable": _no_answer(code="ServiceUnavailableException", status=503),
    "unknown-5xx": _no_answer(code="BrandNewFailure", status=500),
    "dropped": _no_answer(drop="before"),
    "html-of-a-proxy": _proxy_answer(f"<html>{SECRET}</html>"),
    "html-of-a-firewall": _proxy_answer(f"<html>{SECRET}</html>", status=405),
    "nothing": _proxy_answer(""),
    "json-without-a-code": _proxy_answer(f'{{"message": "{SECRET}"}}', status=400),
    "json-with-somebody-elses-code": _proxy_answer(
        f'{{"code": "Blocked", "message": "{SECRET}"}}', status=403
    ),
    "json-with-a-number": _proxy_answer('{"code": 403, "message": "no"}', status=403),
    "json-that-is-no-object": _proxy_answer("[]", status=404),
    "not-utf-8": _proxy_answer("\udcff", status=400),
    "proxy-wants-credentials": _proxy_answer(SECRET, status=407),
    "too-large-for-a-proxy": _proxy_answer(SECRET, status=413),
    "headers-too-large": _proxy_answer(SECRET, status=431),
    "moved": _proxy_answer(SECRET, status=302),
    "garbage-with-200": _proxy_answer(SECRET, status=200),
    "no-content": _proxy_answer("", status=204),
    "another-update": _proxy_answer('{"update": {"id": "u-other", "status": "Cancelling"}}', status=200),
    "half-a-character": _proxy_answer(
        '{"update": {"id": "u-1", "status": "\\ud800"}, "cluster": {"name": "prod-1", "arn": "\\ud800"},'
        ' "updateIds": ["\\ud800"]}',
        status=200,
    ),
}
rows = pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)


def _check_details(refusal: Refusal, row: Row, update_id: str) -> None:
    """Check the details of this row's error, for every call."""
    if "body" not in row.fault:  # else the message is botocore's
        assert refusal.metadata.get("eks_code", "") == ("" if "drop" in row.fault else row.eks_code)
    assert (refusal.retry_s is not None) == (refusal.status == "RESOURCE_EXHAUSTED")
    assert ("PreconditionFailure" in refusal.details) == (refusal.status == "FAILED_PRECONDITION")
    if refusal.status == "FAILED_PRECONDITION":
        cluster, update = "111122223333/us-east-1/prod-1", f"/{update_id}"
        assert refusal.subject in (cluster, cluster + update)  # ListUpdates names no update
    assert SECRET.encode() not in refusal.raw


@rows
async def test_read_error_is_reported_by_its_reason(gateway: RunningGateway, row: Row) -> None:
    """A cancel that cannot read sends nothing."""
    update_id = gateway.eks.rollback("prod-1", tags=PRODUCTION)
    gateway.eks.fault("*", times=99, **row.fault)
    calls = (
        get_update(gateway, "prod-1", update_id),
        list_updates(gateway, "prod-1"),
        check(gateway, "prod-1", update_id),
        gateway.cancel("prod-1", update_id, request_id="unbound"),
    )
    for refusal in await asyncio.gather(*map(expect_refusal, calls)):
        assert refusal.status_and_reason == row.read
        _check_details(refusal, row, update_id)
    assert gateway.eks.calls("CancelUpdate") == ()
    unbound = await expect_refusal(get_cancellation(gateway, request_id="unbound"))
    assert unbound.reason == "CANCELLATION_NOT_FOUND"


@pytest.mark.parametrize("operation", ["DescribeCluster", "DescribeUpdate"])
async def test_cancel_needs_both_reads(gateway: RunningGateway, operation: str) -> None:
    """Either read that fails stops the cancel before the intent."""
    update_id = gateway.eks.rollback("prod-1", tags=PRODUCTION)
    gateway.eks.fault(operation, code="ResourceNotFoundException")
    refusal = await expect_refusal(gateway.cancel("prod-1", update_id, request_id="unbound"))
    assert refusal.status_and_reason == ("NOT_FOUND", "EKS_NOT_FOUND")
    assert gateway.eks.calls("CancelUpdate") == ()
    assert (
        await expect_refusal(get_cancellation(gateway, request_id="unbound"))
    ).reason == "CANCELLATION_NOT_FOUND"


@rows
async def test_cancel_error_names_its_cancellation(tmp_path: Path, eks: SimulatedEks, row: Row) -> None:
    """The record has the same error."""
    throttled = row.cancel[1] == "EKS_THROTTLED"  # until the decision is stale; make that soon
    async with run_gateway(tmp_path, eks, eks={"decision_max_age_s": 4 if throttled else 60}) as gateway:
        update_id = eks.rollback("prod-1", tags=PRODUCTION, update_id="u-1")
        eks.fault("CancelUpdate", times=99, **row.fault)
        refusal = await expect_refusal(gateway.cancel("prod-1", update_id, request_id="first"))
        assert refusal.status_and_reason == row.cancel
        assert refusal.metadata["phase"] == cpb.CancellationPhase.Name(row.phase).removeprefix(PREFIX)
        if row.phase == cpb.CANCELLATION_PHASE_OUTCOME_UNKNOWN:
            assert "eks_code" not in refusal.metadata
            assert SECRET.encode() not in refusal.raw
        else:
            _check_details(refusal, row, update_id)
        kept = await get_cancellation(gateway, cancellation_id=refusal.metadata["cancellation_id"])
        assert kept == await get_cancellation(gateway, request_id="first")
        assert kept.phase == row.phase
        assert kept.phase_reason == refusal.message
        assert kept.HasField("forward_time") == (row.phase != cpb.CANCELLATION_PHASE_NOT_FORWARDED)
        sent = eks.calls("CancelUpdate")
        assert len({call.token for call in sent}) == 1
        assert (len(sent) > 1) == throttled


FOREIGN = {name: row for name, row in ROWS.items() if "body" in row.fault}


@pytest.mark.parametrize("row", FOREIGN.values(), ids=FOREIGN)
async def test_answer_of_a_proxy_is_settled_by_polling(gateway: RunningGateway, row: Row) -> None:
    """EKS took the cancel, and a proxy replaced its answer."""
    update_id = gateway.eks.rollback("prod-1", tags=PRODUCTION)
    gateway.eks.fault("CancelUpdate", **row.fault, effect=True)
    refusal = await expect_refusal(gateway.cancel("prod-1", update_id, request_id="first"))
    assert refusal.reason == "OUTCOME_UNKNOWN"
    gateway.eks.advance(3600)
    found = await wait_for_phase(gateway, cpb.CANCELLATION_PHASE_CANCELLED, request_id="first")
    assert found.phase_reason == OBSERVED
    assert len(gateway.eks.calls("CancelUpdate")) == 1


async def test_unanswered_cancel_does_not_claim_that_it_was_sent(gateway: RunningGateway) -> None:
    """EKS never got it; a new request_id sends again."""
    update_id = gateway.eks.rollback("prod-1", tags=PRODUCTION)
    gateway.eks.fault("CancelUpdate", status=503, code="ServiceUnavailableException")
    first = await expect_refusal(gateway.cancel("prod-1", update_id, request_id="first"))
    assert "is not known" in first.message
    assert "a new request_id sends again" in first.message
    assert "was sent" not in first.message
    assert (await gateway.cancel("prod-1", update_id, request_id="second")).update.status == "Cancelling"
    await wait_for_phase(gateway, cpb.CANCELLATION_PHASE_CANCELLING, request_id="first")


async def test_cancel_without_effect_reports_unseen_after_a_while(tmp_path: Path, eks: SimulatedEks) -> None:
    """In the record, in a repeat's error and to watchers; nothing is sent again."""
    async with run_gateway(tmp_path, eks) as gateway:
        update_id = eks.rollback("prod-1", tags=PRODUCTION)
        eks.fault("CancelUpdate", drop="before")
        early = await expect_refusal(gateway.cancel("prod-1", update_id, request_id="first"))
        watch = gateway.watch("prod-1", update_id)
        seen = [await watch.read()]
        while seen[-1].phase_reason != NO_TRACE:
            assert seen[-1].phase == cpb.CANCELLATION_PHASE_OUTCOME_UNKNOWN
            assert seen[-1].phase_reason == early.message
            seen.append(await watch.read())
        assert seen[-1].sequence == 2
        kept = await get_cancellation(gateway, request_id="first")
        assert kept.phase == cpb.CANCELLATION_PHASE_OUTCOME_UNKNOWN
        assert kept.phase_reason == NO_TRACE
        assert "new request_id sends again" in kept.phase_reason
        again = await expect_refusal(gateway.cancel("prod-1", update_id, request_id="first"))
        assert (again.reason, again.message) == ("OUTCOME_UNKNOWN", NO_TRACE)
        assert len(eks.calls("CancelUpdate")) == 1
        other = await gateway.cancel("prod-1", update_id, request_id="second")
        assert other.phase == cpb.CANCELLATION_PHASE_CANCELLING
        await wait_for_phase(gateway, cpb.CANCELLATION_PHASE_CANCELLING, request_id="first")
        watch.cancel()
        events = len(eks.calls())
        await wait_until(lambda: len(eks.calls()) > events)
    report = verify(tmp_path / "ledger.db")
    assert report.broken is None
