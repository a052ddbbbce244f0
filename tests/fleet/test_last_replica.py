"""The last replica alive follows every cancellation, also those that others forwarded."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from support.fleet.clients import Clients, update_ref
from support.fleet.history import OK
from support.fleet.proof import prove
from support.fleet.replicas import QUICK_BOUNDS, run_fleet
from support.wire import PRODUCTION

LOOK_S = 8  # a claim of a dead replica (4 s), then a look at most follow_s later; the rest is for load


async def test_last_replica_settles_what_others_forwarded(tmp_path: Path) -> None:
    """The updates have no watcher, and each ends after its forwarder died: see point 10 of the validator."""
    clients = Clients()
    async with run_fleet(tmp_path) as fleet:
        refs = [
            update_ref(
                name, fleet.eks.rollback(name, tags=PRODUCTION, cancel_delay_s=0.5, node_replacing_s=4)
            )
            for name in ("prod-1", "prod-2", "prod-3")
        ]
        calls = [
            clients.cancel(replica, ref, ref.cluster.name)
            for replica, ref in zip(fleet.replicas, refs, strict=True)
        ]
        assert {attempt.result for attempt in await asyncio.gather(*calls)} == {OK}
        for replica in fleet.replicas[:2]:
            with fleet.fault("kill", replica, ends=True):
                await replica.kill()
        await prove(fleet, clients, replace(QUICK_BOUNDS, look=LOOK_S, slack=4))
