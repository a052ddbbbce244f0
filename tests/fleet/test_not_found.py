"""What does not exist is not found at any replica, and found at all once it exists."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import grpc
import pytest

from eksgateway.client import ErrorDetails
from eksgateway.v1 import cancellation_pb2 as cpb
from support.fleet.clients import Clients, update_ref
from support.fleet.history import OK
from support.fleet.proof import prove
from support.fleet.replicas import Replica, run_fleet
from support.waiting import wait_until
from support.wire import PRODUCTION, expect_refusal, get_cancellation, wait_for_phase

MISSING = "11111111-2222-3333-4444-555555555555"


async def watch_error(replica: Replica, cluster: str) -> str:
    call = replica.client.watch(cluster, MISSING)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    return ErrorDetails.of(caught.value).reason


async def test_missing_update_is_not_found_at_any_replica(tmp_path: Path) -> None:
    """Watches and cancels of it fail on all replicas at once; it is found as soon as EKS has it."""
    clients = Clients()
    async with run_fleet(tmp_path, 2) as fleet:
        fleet.eks.cluster("prod-1", tags=PRODUCTION)
        errors = await asyncio.gather(*(watch_error(each, "prod-1") for each in (*fleet.replicas, fleet[0])))
        assert set(errors) == {"EKS_NOT_FOUND"}
        ref = update_ref("prod-1", MISSING)
        results = [(await clients.cancel(each, ref, "early")).result for each in fleet.replicas]
        assert results == ["EKS_NOT_FOUND", "EKS_NOT_FOUND"]
        assert fleet.read_events() == ()

        fleet.eks.rollback("prod-1", update_id=MISSING, tags=PRODUCTION, node_replacing_s=0.5)
        watchers = [clients.watcher(ref) for _ in fleet.replicas]
        watching = [
            asyncio.create_task(watcher.run(partial(fleet.__getitem__, index)))
            for index, watcher in enumerate(watchers)
        ]
        await wait_until(lambda: all(watcher.messages for watcher in watchers), 30)
        assert (await clients.cancel(fleet[1], ref, "early")).result == OK
        await asyncio.wait_for(asyncio.gather(*watching), 60)
        await prove(fleet, clients)


async def test_cancellations_are_found_at_each_replica_by_those_who_may_read_them(tmp_path: Path) -> None:
    """A cancellation of replica a is readable at b at once; to others it does not exist at either."""
    clients = Clients()
    async with run_fleet(tmp_path, 2) as fleet:
        a, b = fleet.replicas
        ref = update_ref("prod-1", fleet.eks.rollback("prod-1", tags=PRODUCTION, node_replacing_s=0.5))
        made = await clients.cancel(a, ref, "made")
        found = await get_cancellation(b.client, request_id="made")
        assert found.cancellation_id == made.cancellation_id
        for replica in (a, b):
            outsider = get_cancellation(
                replica.client, replica.client.outsider, cancellation_id=made.cancellation_id
            )
            unknown = get_cancellation(replica.client, cancellation_id=MISSING)
            for call in (outsider, unknown):
                assert (await expect_refusal(call)).reason == "CANCELLATION_NOT_FOUND"
            await wait_for_phase(
                replica.client, cpb.CANCELLATION_PHASE_CANCELLED, cancellation_id=made.cancellation_id
            )
        await prove(fleet, clients)
