"""An update that EKS is already cancelling, whatever its status is meanwhile."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from eksgateway.ledger.projection import ALREADY
from eksgateway.ledger.verify import verify
from eksgateway.v1 import cancellation_pb2 as cpb
from support.gateway import RunningGateway, run_gateway
from support.simulator import SimulatedEks
from support.wire import (
    PRODUCTION,
    Gate,
    add_hooks,
    check,
    expect_refusal,
    get_cancellation,
    list_cancellable,
    wait_for_phase,
)

STATUSES = ("InProgress", "Successful", "StatusOfTomorrow")
WHY = "The nodes would not stop."


@pytest.mark.parametrize("status", STATUSES)
async def test_check_and_list_report_a_cancelling_update_as_not_cancellable(
    gateway: RunningGateway, status: str
) -> None:
    """The update's status is still InProgress."""
    update_id = gateway.eks.rollback("prod-1", tags=PRODUCTION, cancellation={"status": status})
    checked = await check(gateway, "prod-1", update_id)
    assert not checked.cancellability.cancellable_now
    assert "cancelling this update already" in checked.cancellability.explanation
    assert list((await list_cancellable(gateway)).updates) == []


@pytest.mark.parametrize("status", STATUSES)
async def test_second_cancel_is_ok_without_sending(gateway: RunningGateway, status: str) -> None:
    """It is followed to its end, and a repeat returns the same."""
    update_id = gateway.eks.rollback("prod-1", tags=PRODUCTION, cancellation={"status": status})
    told = await gateway.cancel("prod-1", update_id, request_id="second")
    assert told.phase == cpb.CANCELLATION_PHASE_REQUESTED
    assert told.phase_reason == ALREADY
    assert not told.HasField("forward_time")
    assert told == await gateway.cancel("prod-1", update_id, request_id="second")
    gateway.eks.set_update("prod-1", update_id, status="Cancelled")
    await wait_for_phase(gateway, cpb.CANCELLATION_PHASE_CANCELLED, request_id="second")
    assert gateway.eks.calls("CancelUpdate") == ()


@pytest.mark.parametrize("cancelled", [False, True], ids=["under way", "over"])
async def test_two_cancels_at_once_both_succeed(tmp_path: Path, eks: SimulatedEks, cancelled: bool) -> None:
    """The later one reads before the earlier cancel, and EKS refuses it."""
    looked = Gate()
    both = asyncio.Event()  # have read the update
    count = 0

    async def commit(*args: Any, **kwargs: Any) -> None:
        nonlocal count
        count += 1
        if count == 2:
            both.set()
            await looked(*args, **kwargs)
        async with asyncio.timeout(60):
            await both.wait()

    async with run_gateway(tmp_path, eks, wrap_ledger=add_hooks(commit_intent=commit)) as gateway:
        update_id = eks.rollback("prod-1", tags=PRODUCTION, cancel_delay_s=3600, node_phase_s=7200)
        other = gateway.credentials("other", "oncall")
        first = asyncio.ensure_future(gateway.cancel("prod-1", update_id, request_id="first"))
        second = asyncio.ensure_future(gateway.cancel("prod-1", update_id, other, request_id="second"))
        done, waiting = await asyncio.wait({first, second}, return_when=asyncio.FIRST_COMPLETED)
        if cancelled:
            eks.set_update("prod-1", update_id, status="Cancelled")
        looked.open()
        (late,) = waiting
        phase = cpb.CANCELLATION_PHASE_CANCELLED if cancelled else cpb.CANCELLATION_PHASE_REQUESTED
        assert (await late).phase == phase
        assert cancelled or (await late).phase_reason == ALREADY
        early = await done.pop()
        assert early.phase == cpb.CANCELLATION_PHASE_REQUESTED
        assert (await late).HasField("forward_time")
        assert len(eks.calls("CancelUpdate")) == 2
        who = other if late is second else None
        key = "second" if late is second else "first"
        assert (await get_cancellation(gateway, who, request_id=key)).phase == phase
    report = verify(tmp_path / "ledger.db")
    assert (report.broken, report.cancellations) == (None, 2)


async def test_refusal_for_another_reason_is_rejected(gateway: RunningGateway) -> None:
    update_id = gateway.eks.rollback("prod-1", tags=PRODUCTION)
    gateway.eks.fault("CancelUpdate", code="InvalidStateException", message="Not now.")
    refusal = await expect_refusal(gateway.cancel("prod-1", update_id, request_id="first"))
    assert (refusal.status_and_reason, refusal.message) == (
        ("FAILED_PRECONDITION", "EKS_INVALID_STATE"),
        "Not now.",
    )
    assert (await get_cancellation(gateway, request_id="first")).phase == cpb.CANCELLATION_PHASE_REJECTED


async def test_cancel_after_a_failed_cancellation_is_sent(gateway: RunningGateway) -> None:
    """The update is cancellable, and the advice has EKS's reason."""
    failed = {"status": "Failed", "reason": WHY}
    update_id = gateway.eks.rollback("prod-1", tags=PRODUCTION, cancellation=failed)
    checked = await check(gateway, "prod-1", update_id)
    assert checked.cancellability.cancellable_now
    assert WHY in checked.cancellability.explanation
    (found,) = (await list_cancellable(gateway)).updates
    assert WHY in found.explanation
    told = await gateway.cancel("prod-1", update_id, request_id="first")
    assert told.update.status == "Cancelling"
    assert len(gateway.eks.calls("CancelUpdate")) == 1
