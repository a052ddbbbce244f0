"""Replicas reach PostgreSQL through PgBouncer in transaction mode."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from support.fleet.clients import Clients, update_ref
from support.fleet.history import OK
from support.fleet.pooler import PGBOUNCER, run_pooler
from support.fleet.proof import prove
from support.fleet.replicas import run_fleet
from support.wire import PRODUCTION

pytestmark = pytest.mark.skipif(PGBOUNCER is None, reason="no pgbouncer on this machine")


@pytest.mark.parametrize("listens", [True, False], ids=["with listen_url", "without"])
async def test_replicas_keep_the_promise_through_a_pooler(tmp_path: Path, *, listens: bool) -> None:
    """Without a direct way for LISTEN, a replica learns of changes by its own looks."""
    clients = Clients()
    async with run_fleet(tmp_path, 2) as fleet, run_pooler(fleet.database, 3) as url:
        for replica in fleet.replicas:
            await replica.end()
            listen_url = {"listen_url": fleet.database.url} if listens else {}
            replica.change_ledger(url=url, **listen_url)
            await replica.start()
        for number in range(3):
            plan = {"cancel_delay_s": 0.5, "node_replacing_s": 1.0}
            ref = update_ref(f"prod-{number}", fleet.eks.rollback(f"prod-{number}", tags=PRODUCTION, **plan))
            watcher = clients.watcher(ref)
            watching = asyncio.create_task(watcher.run(lambda: fleet[1]))
            calls = [clients.cancel(replica, ref, f"request-{number}") for replica in fleet.replicas]
            assert {attempt.result for attempt in await asyncio.gather(*calls)} == {OK}
            await asyncio.wait_for(watching, 60)
        assert fleet.eks.count("CancelUpdate") == 3
        await prove(fleet, clients)
