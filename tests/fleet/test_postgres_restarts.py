"""PostgreSQL restarts in the middle of a cancel, or comes back with less than it had."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import psycopg
import pytest

from eksgateway.ledger.hash_chain import Checkpoint
from eksgateway.model import UpdateRef
from support.fleet.clients import Clients, update_ref
from support.fleet.history import OK
from support.fleet.proof import prove
from support.fleet.replicas import Fleet, run_fleet
from support.waiting import wait_until
from support.wire import PRODUCTION


def add_update(fleet: Fleet, cluster: str) -> UpdateRef:
    """An update that is cancelled a second after its cancel."""
    plan = {"cancel_delay_s": 0.3, "node_replacing_s": 0.7}
    return update_ref(cluster, fleet.eks.rollback(cluster, tags=PRODUCTION, **plan))


async def wait_for_ok(clients: Clients, fleet: Fleet, ref: UpdateRef, request_id: str) -> None:
    """Repeat a cancel on all replicas until each answers OK."""
    for replica in fleet.replicas:
        async with asyncio.timeout(30):
            while (await clients.cancel(replica, ref, request_id)).result != OK:
                pass


@pytest.mark.parametrize("mode", [signal.SIGINT, signal.SIGQUIT], ids=["fast", "crash"])
async def test_restart_in_the_middle_of_a_cancel_loses_nothing(tmp_path: Path, mode: signal.Signals) -> None:
    """EKS answers while PostgreSQL restarts: the outcome is recorded afterwards, and a repeat gets it."""
    clients = Clients()
    async with run_fleet(tmp_path, 2) as fleet:
        ref = add_update(fleet, "prod-1")
        fleet.eks.fault("CancelUpdate", delay_s=1)
        cancelling = asyncio.create_task(clients.cancel(fleet[0], ref, "held"))
        await wait_until(lambda: fleet.eks.count("CancelUpdate"))
        with fleet.fault("restart", database=True):
            await fleet.stop_postgres(mode)
            await fleet.start_postgres()
        answer = await cancelling
        assert answer.result in {OK, "OUTCOME_UNRECORDED"}
        await wait_for_ok(clients, fleet, ref, "held")
        assert fleet.eks.count("CancelUpdate") == 1
        await prove(fleet, clients)


async def test_ledger_that_went_back_takes_replicas_out_of_service(tmp_path: Path) -> None:
    """PostgreSQL lost its newest events: nothing is sent, and the log names both heads, until a restart."""
    clients = Clients()
    async with run_fleet(tmp_path, 2) as fleet:
        first, second = add_update(fleet, "prod-1"), add_update(fleet, "prod-2")
        assert (await clients.cancel(fleet[0], first, "first")).result == OK
        old = fleet.read_events()[-1].event.checkpoint
        assert (await clients.cancel(fleet[1], second, "second")).result == OK
        cut_off(fleet, old.seq)
        third = add_update(fleet, "prod-3")
        sent = fleet.eks.count("CancelUpdate")
        result = await clients.cancel(fleet[1], third, "third")
        assert result.result == "LEDGER_UNAVAILABLE"
        assert fleet.eks.count("CancelUpdate") == sent
        await fleet[1].client.wait_for_readiness(ready=False)
        line = fleet[1].logged("ledger.went_back")[0]
        assert line["found"] == str(old)
        assert Checkpoint.parse(line["known"]).seq > old.seq
        await fleet[1].end()
        await fleet[1].start()
        assert (await clients.cancel(fleet[1], third, "fourth")).result == OK


def cut_off(fleet: Fleet, seq: int) -> None:
    """What a restored backup lacks."""
    with psycopg.connect(fleet.database.superuser_url) as connection:
        connection.execute("ALTER TABLE eksgateway.events DISABLE TRIGGER events_refuse_changes")
        connection.execute("DELETE FROM eksgateway.cancellations WHERE created > %s", [seq])
        connection.execute("DELETE FROM eksgateway.events WHERE seq > %s", [seq])
        connection.execute("ALTER TABLE eksgateway.events ENABLE ALWAYS TRIGGER events_refuse_changes")
