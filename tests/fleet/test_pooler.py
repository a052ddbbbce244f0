"""Replicas behind a pooler in transaction mode."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import aiohttp
import pytest
import yaml

from support.fleet.replicas import Replica, run_fleet
from support.pooler import PGBOUNCER, run_pooler
from support.waiting import wait_until
from support.wire import PRODUCTION

pytestmark = pytest.mark.skipif(
    PGBOUNCER is None, reason="needs PgBouncer: install it, or set EKSGATEWAY_TEST_PGBOUNCER to its path"
)


def change_ledger(config: Path, **ledger: str) -> None:
    """Change the settings of a replica's ledger."""
    raw = yaml.safe_load(config.read_text())
    raw["ledger"].update(ledger)
    config.write_text(yaml.safe_dump(raw))


async def hear_notices(replica: Replica) -> None:
    """Wait until the replica's metrics report that it hears notices."""
    address = replica.logged("gateway.started")[-1]["metrics"]
    async with aiohttp.ClientSession() as http, asyncio.timeout(60):
        while True:
            async with http.get(f"http://{address}/metrics") as answer:
                if "eksgateway_fleet_listening 1.0" in await answer.text():
                    return


@pytest.mark.parametrize("direct", [False, True], ids=["pooler alone", "with listen_url"])
async def test_replicas_work_through_a_pooler(tmp_path: Path, *, direct: bool) -> None:
    """A request_id has one effect. Notices are heard with ``listen_url``; without it that is logged once."""
    async with (
        run_fleet(tmp_path, 2, metrics={"listen": "127.0.0.1:0"}) as fleet,
        run_pooler(fleet.database.url) as pooled,
    ):
        urls = {"url": pooled} | ({"listen_url": fleet.database.url} if direct else {})
        for replica in fleet.replicas:
            assert await replica.end() == 0
            change_ledger(tmp_path / f"{replica.name}.yaml", **urls)
            await replica.start()
        one, two = (replica.client for replica in fleet.replicas)
        for number in range(3):
            name, request_id = f"prod-{number}", f"request-{number}"
            update_id = fleet.eks.rollback(name, tags=PRODUCTION)
            found = await asyncio.gather(
                *(each.cancel(name, update_id, request_id=request_id) for each in (one, two, one))
            )
            assert len({each.cancellation_id for each in found}) == 1
        assert fleet.eks.count("CancelUpdate") == 3
        for replica in fleet.replicas:
            assert replica.logged("fleet.listener_lost") == []
            if direct:
                await hear_notices(replica)
                assert replica.logged("fleet.notices_not_heard") == []
            else:
                await wait_until(partial(replica.logged, "fleet.notices_not_heard"))
