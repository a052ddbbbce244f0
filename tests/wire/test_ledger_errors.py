"""A failing ledger: before the forward nothing is sent; after it the outcome is recorded later."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import pytest

from eksgateway import errors
from eksgateway.ledger.projection import OBSERVED
from eksgateway.simulator import CallRecord
from eksgateway.v1 import cancellation_pb2 as cpb
from support.gateway import run_gateway
from support.ledger import hold_write_lock
from support.simulator import SimulatedEks
from support.waiting import wait_until
from support.wire import (
    PRODUCTION,
    add_hooks,
    always_raise,
    expect_refusal,
    get_cancellation,
    list_cancellations,
    wait_for_phase,
)

UNAVAILABLE = ("UNAVAILABLE", "LEDGER_UNAVAILABLE")
SECRET = "/var/lib/secret-path"


async def test_locked_ledger_fails_the_cancel_and_sends_nothing(tmp_path: Path, eks: SimulatedEks) -> None:
    """It works again once the lock is released."""
    async with run_gateway(tmp_path, eks, ledger={"commit_timeout_s": 3}) as gateway:
        update_id = eks.rollback("prod-1", tags=PRODUCTION)
        with hold_write_lock(gateway.gateway.settings.ledger):
            refusal = await expect_refusal(gateway.cancel("prod-1", update_id, request_id="first"))
            assert refusal.status_and_reason == UNAVAILABLE
            assert eks.calls("DescribeUpdate")
        await wait_until(lambda: not _pending(tmp_path))
        assert eks.calls("CancelUpdate") == ()
        cancelled = await gateway.cancel("prod-1", update_id, request_id="first")
        assert cancelled.phase == cpb.CANCELLATION_PHASE_CANCELLING
        assert len(eks.calls("CancelUpdate")) == 1


async def test_removed_ledger_file_fails_the_cancel_and_sends_nothing(
    tmp_path: Path, eks: SimulatedEks
) -> None:
    async with run_gateway(tmp_path, eks) as gateway:
        update_id = eks.rollback("prod-1", tags=PRODUCTION)
        (tmp_path / "ledger.db").rename(tmp_path / "moved.db")
        refusal = await expect_refusal(gateway.cancel("prod-1", update_id, request_id="first"))
        assert refusal.status_and_reason == UNAVAILABLE
        assert str(tmp_path).encode() not in refusal.raw
        assert eks.calls("CancelUpdate") == ()


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        pytest.param(errors.LedgerUnavailable(detail=SECRET), UNAVAILABLE, id="unavailable"),
        pytest.param(OSError(SECRET), ("INTERNAL", "INTERNAL"), id="broken"),
    ],
)
async def test_failing_ledger_sends_nothing(
    tmp_path: Path, eks: SimulatedEks, failure: Exception, told: tuple[str, str]
) -> None:
    """On reads and commits; the error's text is not sent to the caller."""
    hooks = dict.fromkeys(("get", "history", "commit_intent"), always_raise(failure))
    async with run_gateway(tmp_path, eks, wrap_ledger=add_hooks(**hooks)) as gateway:
        update_id = eks.rollback("prod-1", tags=PRODUCTION)
        calls = (
            gateway.cancel("prod-1", update_id),
            get_cancellation(gateway, cancellation_id="any"),
            list_cancellations(gateway),
        )
        for refusal in await asyncio.gather(*map(expect_refusal, calls)):
            assert refusal.status_and_reason == told
            assert SECRET.encode() not in refusal.raw
        assert eks.calls("CancelUpdate") == ()


async def test_cancel_fails_when_its_request_id_cannot_be_looked_up(
    tmp_path: Path, eks: SimulatedEks
) -> None:
    """No EKS call at all."""
    failing = add_hooks(look_up=always_raise(errors.LedgerUnavailable()))
    async with run_gateway(tmp_path, eks, wrap_ledger=failing) as gateway:
        update_id = eks.rollback("prod-1", tags=PRODUCTION)
        assert (await expect_refusal(gateway.cancel("prod-1", update_id))).status_and_reason == UNAVAILABLE
        assert eks.calls() == ()


async def test_unrecorded_outcome_is_recorded_later(tmp_path: Path) -> None:
    """OUTCOME_UNRECORDED with the cancellation's id."""
    lock = ExitStack()

    def hold(call: CallRecord) -> None:
        if call.operation == "CancelUpdate":
            lock.enter_context(hold_write_lock(gateway.gateway.settings.ledger))

    async with AsyncExitStack() as stack:
        eks = await stack.enter_async_context(SimulatedEks(on_call=hold))
        gateway = await stack.enter_async_context(run_gateway(tmp_path, eks, ledger={"commit_timeout_s": 3}))
        stack.push(lock)
        update_id = eks.rollback("prod-1", tags=PRODUCTION)
        refusal = await expect_refusal(gateway.cancel("prod-1", update_id, request_id="first"))
        assert refusal.status_and_reason == ("UNAVAILABLE", "OUTCOME_UNRECORDED")
        kept = await get_cancellation(gateway, cancellation_id=refusal.metadata["cancellation_id"])
        assert kept.phase == cpb.CANCELLATION_PHASE_OUTCOME_UNKNOWN
        lock.close()
        found = await wait_for_phase(gateway, cpb.CANCELLATION_PHASE_CANCELLING, request_id="first")
        await wait_until(lambda: _kinds(tmp_path).count("outcome") == 1)
        eks.advance(121)
        found = await wait_for_phase(gateway, cpb.CANCELLATION_PHASE_CANCELLED, request_id="first")
        assert found.HasField("forward_time")
        assert found.phase_reason != OBSERVED  # the late outcome is an answer
        assert len(eks.calls("CancelUpdate")) == 1


def _pending(path: Path) -> int:
    (count,) = _query(path, "SELECT count(*) FROM cancellations WHERE pending")[0]
    assert isinstance(count, int)
    return count


def _kinds(path: Path) -> list[str]:
    return [str(kind) for (kind,) in _query(path, "SELECT kind FROM events ORDER BY seq")]


def _query(path: Path, sql: str) -> list[tuple[object, ...]]:
    other = sqlite3.connect(path / "ledger.db")
    try:
        return other.execute(sql).fetchall()
    finally:
        other.close()
