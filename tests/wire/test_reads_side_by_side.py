"""A cancel and a check read the cluster and the update side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eksgateway.errors import EksNotFound, EksUnavailable
from support.gateway import RunningGateway, run_gateway
from support.simulator import SimulatedEks
from support.waiting import wait_until
from support.wire import PRODUCTION, Gate, add_hooks, check, expect_refusal

CALLS: dict[str, Callable[[RunningGateway, str], Any]] = {
    "cancel": lambda gateway, update_id: gateway.cancel("prod-1", update_id),
    "check": lambda gateway, update_id: check(gateway, "prod-1", update_id),
}
calls = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


@calls
async def test_both_reads_are_under_way_at_once(
    tmp_path: Path, eks: SimulatedEks, call: Callable[..., Any]
) -> None:
    cluster, update = Gate(), Gate()
    hooks = add_hooks(describe_cluster=cluster, describe_update=update)
    async with run_gateway(tmp_path, eks, wrap_eks=hooks) as gateway:
        running = asyncio.ensure_future(call(gateway, eks.rollback("prod-1", tags=PRODUCTION)))
        await wait_until(lambda: (cluster.entered, update.entered) == (1, 1))
        assert (cluster.left, update.left) == (0, 0)
        cluster.open()
        update.open()
        await running


@calls
async def test_error_of_the_cluster_comes_before_an_earlier_one_of_the_update(
    tmp_path: Path, eks: SimulatedEks, call: Callable[..., Any]
) -> None:
    failed = asyncio.Event()

    async def fail_first(*_: Any, **__: Any) -> None:
        failed.set()
        raise EksNotFound

    async def fail_later(*_: Any, **__: Any) -> None:
        await failed.wait()
        raise EksUnavailable

    hooks = add_hooks(describe_cluster=fail_later, describe_update=fail_first)
    async with run_gateway(tmp_path, eks, wrap_eks=hooks) as gateway:
        refusal = await expect_refusal(call(gateway, eks.rollback("prod-1", tags=PRODUCTION)))
        assert refusal.reason == "EKS_UNAVAILABLE"


@calls
async def test_error_of_the_cluster_does_not_wait_for_the_update(
    tmp_path: Path, eks: SimulatedEks, call: Callable[..., Any]
) -> None:
    """The read of the update is cancelled."""
    update = Gate()
    async with run_gateway(tmp_path, eks, wrap_eks=add_hooks(describe_update=update)) as gateway:
        eks.fault("DescribeCluster", code="ResourceNotFoundException")
        refusal = await expect_refusal(call(gateway, eks.rollback("prod-1", tags=PRODUCTION)))
        assert refusal.reason == "EKS_NOT_FOUND"
        assert (update.entered, update.left) == (1, 1)
        assert eks.calls("DescribeUpdate") == ()


@calls
async def test_both_reads_end_with_their_call(
    tmp_path: Path, eks: SimulatedEks, call: Callable[..., Any]
) -> None:
    """When the caller goes. The next call finds the threads free: it could not make both reads otherwise."""
    cluster, update = Gate(), Gate()
    hooks = add_hooks(describe_cluster=cluster, describe_update=update)
    async with run_gateway(tmp_path, eks, wrap_eks=hooks, eks={"threads": 4}) as gateway:
        update_id = eks.rollback("prod-1", tags=PRODUCTION)
        running = asyncio.ensure_future(call(gateway, update_id))
        await wait_until(lambda: (cluster.entered, update.entered) == (1, 1))
        running.cancel()
        await wait_until(lambda: (cluster.left, update.left) == (1, 1))
        cluster.open()
        update.open()
        await call(gateway, update_id)
