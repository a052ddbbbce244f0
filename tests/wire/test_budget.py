"""The budget of EKS calls on the wire: the order of calls, and throttling."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from eksgateway.v1 import update_service_pb2 as pb
from eksgateway.v1.update_pb2 import ClusterRef
from support.gateway import RunningGateway, run_gateway
from support.logs import capture_logs
from support.simulator import SimulatedEks
from support.waiting import wait_until
from support.wire import check, expect_refusal, get_update, list_updates

RATE = 5


def rollbacks(eks: SimulatedEks, count: int) -> dict[str, str]:
    """Add an update in each of many clusters."""
    return {f"prod-{number}": eks.rollback(f"prod-{number}") for number in range(count)}


def watch(gateway: RunningGateway, updates: dict[str, str]) -> list[Any]:
    """Open a watch of each."""
    return [gateway.watch(cluster, update_id, gateway.viewer) for cluster, update_id in updates.items()]


async def test_cancel_overtakes_waiting_reads(tmp_path: Path, eks: SimulatedEks) -> None:
    """The cancel's three EKS calls come before the calls of dozens of readers that wait already."""
    crowd = rollbacks(eks, 40)
    cancelled = eks.rollback("staging-1")
    async with run_gateway(tmp_path, eks, eks={"calls_per_s": RATE}) as gateway:
        poller = gateway.watch("staging-1", cancelled, gateway.viewer)  # polls every 0.1 s
        await poller.read()
        await wait_until(lambda: len(eks.calls()) > RATE + 1)  # the saved calls are spent
        waiting = watch(gateway, crowd)
        for cluster in crowd:
            listed = pb.ListUpdatesRequest(cluster=ClusterRef(name=cluster))
            waiting.append(gateway.updates.ListUpdates(listed, metadata=gateway.viewer, timeout=60))
        before = len(eks.calls())
        await wait_until(lambda: len(eks.calls()) >= before + 2)
        before = len(eks.calls())
        await gateway.cancel("staging-1", cancelled)
        operations = [call.operation for call in eks.calls()[before:]]
        assert operations.index("CancelUpdate") <= 3 * RATE
        assert sum(not call.done() for call in waiting) > 2 * RATE
        for call in (*waiting, poller):
            call.cancel()


async def test_cancels_of_callers_take_turns(tmp_path: Path, eks: SimulatedEks) -> None:
    """Dozens of waiting cancels of one caller delay another caller by one turn."""
    crowd = rollbacks(eks, 45)
    wanted = eks.rollback("staging-1")
    async with run_gateway(tmp_path, eks, eks={"calls_per_s": RATE}) as gateway:
        greedy = gateway.credentials("greedy", "oncall")
        waiting = [
            asyncio.ensure_future(gateway.cancel(cluster, update_id, greedy, ticket="T-1"))
            for cluster, update_id in crowd.items()
        ]
        await wait_until(lambda: len(eks.calls()) > RATE)
        assert (await gateway.cancel("staging-1", wanted)).update.status == "Cancelling"
        assert sum(not call.done() for call in waiting) > RATE
        for call in waiting:
            call.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_reads_of_callers_take_turns(tmp_path: Path, eks: SimulatedEks) -> None:
    """Get, check, list and watch of a second caller alternate with a crowd's."""
    crowd, wanted = rollbacks(eks, 95), eks.rollback("prod-wanted")
    async with run_gateway(tmp_path, eks, eks={"calls_per_s": RATE}) as gateway:
        greedy = gateway.credentials("greedy", "viewers")
        waiting = [
            asyncio.ensure_future(get_update(gateway, cluster, update_id, greedy))
            for cluster, update_id in crowd.items()
        ]
        await wait_until(lambda: any(each.done() and each.exception() for each in waiting))
        refused = next(each for each in waiting if each.done() and each.exception())
        assert (await expect_refusal(refused)).reason == "OVERLOADED"
        assert (await get_update(gateway, "prod-wanted", wanted, gateway.viewer)).id == wanted
        assert (await check(gateway, "prod-wanted", wanted, gateway.viewer)).update.id == wanted
        assert (await list_updates(gateway, "prod-wanted", gateway.viewer)).updates[0].id == wanted
        watched = gateway.watch("prod-wanted", wanted, gateway.viewer)
        assert (await watched.read()).update.id == wanted
        assert sum(not each.done() for each in waiting) > RATE
        for each in (*waiting, watched):
            each.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_read_past_the_longest_wait_is_overloaded(tmp_path: Path, eks: SimulatedEks) -> None:
    """OVERLOADED with a retry delay; open watches go on."""
    crowd = rollbacks(eks, 61)
    polled = crowd.popitem()
    async with run_gateway(tmp_path, eks, eks={"calls_per_s": RATE}) as gateway:
        poller = gateway.watch(*polled, gateway.viewer)
        await poller.read()
        await wait_until(lambda: len(eks.calls()) > RATE + 1)
        waiting = watch(gateway, crowd)
        await wait_until(lambda: any(each.done() for each in waiting))
        refusal = await expect_refusal(next(each for each in waiting if each.done()).read())
        assert refusal.status_and_reason == ("RESOURCE_EXHAUSTED", "OVERLOADED")
        assert refusal.retry_s is not None
        eks.set_update(*polled, status="Paused")
        while (await poller.read()).update.status != "Paused":
            pass
        for call in (*waiting, poller):
            call.cancel()


async def test_throttling_halves_the_calls(tmp_path: Path, eks: SimulatedEks) -> None:
    """For some seconds after one throttled call."""
    rate = 20
    updates = rollbacks(eks, 8)
    with capture_logs() as logs:
        async with run_gateway(tmp_path, eks, eks={"calls_per_s": rate}) as gateway:
            watches = watch(gateway, updates)
            await asyncio.gather(*(each.read() for each in watches))
            await wait_until(lambda: len(eks.calls()) > 2 * rate)
            eks.fault("DescribeUpdate", status=429, code="ThrottlingException")
            await wait_until(lambda: any(line["event"] == "eks.throttled" for line in logs))
            since = datetime.now(UTC)
            await wait_until(lambda: datetime.now(UTC) > since + timedelta(seconds=2))
            # Half the rate, and its recovery in two seconds.
            assert sum(since <= call.time < since + timedelta(seconds=2) for call in eks.calls()) <= rate + 3
            for each in watches:
                each.cancel()
    told = [line for line in logs if line["event"] == "eks.throttled"]
    assert [(line["region"], line["calls_per_s"]) for line in told] == [("us-east-1", rate / 2)]
