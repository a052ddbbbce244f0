"""What happens to a watched update when the replica that reads it dies or stands still."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import time

from eksgateway.model import UpdateRef
from eksgateway.simulator.specs import FaultSpec
from support.fleet.clients import Clients, update_ref
from support.fleet.history import EksCall
from support.fleet.replicas import QUICK, QUICK_BOUNDS, Fleet, Replica, run_fleet
from support.waiting import wait_until
from support.wire import PRODUCTION

CLAIM_S = QUICK_BOUNDS.claim
POLL_S = QUICK["watch"]["poll_s"]
SLACK_S = 1.0  # of a loaded machine


@asynccontextmanager
async def watched_by_all(fleet: Fleet) -> AsyncIterator[UpdateRef]:
    """An update with a watcher on each replica that has its first state."""
    clients = Clients()
    ref = update_ref("prod-1", fleet.eks.rollback("prod-1", tags=PRODUCTION))
    tasks = []
    for replica in fleet.replicas:
        watcher = clients.watcher(ref)
        tasks.append(asyncio.create_task(watcher.run(lambda replica=replica: replica)))  # type: ignore[misc]
    try:
        await wait_until(lambda: all(watcher.statuses for watcher in clients.watchers))
        yield ref
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def calls_after(fleet: Fleet, moment: float) -> list[EksCall]:
    return [call for call in fleet.eks.eks_calls if call.began > moment]


def replica_of(fleet: Fleet, call: EksCall) -> Replica:
    return next(replica for replica in fleet.replicas if replica.name == call.replica)


async def test_killed_replica_delays_the_next_look(tmp_path: Path) -> None:
    """By its claim at most, in the middle of a look; between looks by half a second at most."""
    async with run_fleet(tmp_path) as fleet, watched_by_all(fleet):
        fleet.eks.simulator.control.faults.add(FaultSpec(operation="DescribeUpdate", delay_s=1.9))
        held = await wait_until(lambda: [call for call in fleet.eks.eks_calls if call.ended - call.began > 1])
        await replica_of(fleet, held[0]).kill()
        after = await wait_until(lambda: calls_after(fleet, held[0].began))
        assert CLAIM_S - 0.5 < after[0].began - held[0].began < CLAIM_S + 1 + SLACK_S
        assert after[0].replica != held[0].replica

        await wait_until(lambda: len(calls_after(fleet, after[0].began)) > 1)
        last = fleet.eks.eks_calls[-1]
        await wait_until(lambda: time() > last.ended + 0.1)  # the look is shared
        await replica_of(fleet, last).kill()
        after = await wait_until(lambda: calls_after(fleet, last.ended))
        assert after[0].began - last.began < POLL_S * 1.1 + 0.5 + SLACK_S
