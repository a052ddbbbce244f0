"""PostgreSQL stops, freezes, falls silent or goes back: cancels are refused, and watches go on."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable
from functools import partial
from pathlib import Path
from time import monotonic

import psycopg
import pytest

from eksgateway.ledger.hash_chain import Checkpoint
from eksgateway.model import UpdateRef
from support.fleet.clients import Clients, Watcher, update_ref
from support.fleet.history import OK, Attempt
from support.fleet.proof import prove
from support.fleet.replicas import Fleet, run_fleet
from support.waiting import wait_until
from support.wire import PRODUCTION

COMMIT_S = 2  # commit_timeout_s
REFUSED = "LEDGER_UNAVAILABLE"


def add_update(fleet: Fleet, cluster: str) -> UpdateRef:
    """An update that is cancelled a second after its cancel."""
    plan = {"cancel_delay_s": 0.3, "node_replacing_s": 0.7}
    return update_ref(cluster, fleet.eks.rollback(cluster, tags=PRODUCTION, **plan))


async def timed(call: Awaitable[Attempt]) -> tuple[str, float]:
    """The result of a cancel, and how long it took."""
    began = monotonic()
    attempt = await call
    return attempt.result, monotonic() - began


async def cancel_on_all(
    clients: Clients, fleet: Fleet, ref: UpdateRef, request_id: str
) -> list[tuple[str, float]]:
    """One cancel on all replicas at once, timed."""
    calls = [timed(clients.cancel(replica, ref, request_id)) for replica in fleet.replicas]
    return await asyncio.gather(*calls)


async def wait_for_ok(clients: Clients, fleet: Fleet, ref: UpdateRef, request_id: str) -> None:
    """Repeat a cancel on all replicas until each answers OK."""
    for replica in fleet.replicas:
        async with asyncio.timeout(30):
            while (await clients.cancel(replica, ref, request_id)).result != OK:
                pass


async def watch_one_change(fleet: Fleet, watcher: Watcher) -> None:
    """EKS changes the watched update, and its watcher learns of it."""
    known = len(watcher.statuses)
    fleet.eks.set_update(watcher.ref.cluster.name, watcher.ref.update_id, status=f"Newer{known}")
    await wait_until(lambda: len(watcher.statuses) > known, 30)


async def test_cancels_are_refused_and_watches_go_on_without_postgres(tmp_path: Path) -> None:
    """Stopped: at once. Frozen: by the deadline of the commit. Silent: by twice that. Then all is well."""
    clients = Clients()
    async with run_fleet(tmp_path, 2) as fleet, asyncio.TaskGroup() as group:
        a, b = fleet.replicas
        watched = update_ref("prod-9", fleet.eks.rollback("prod-9", tags=PRODUCTION))
        watchers = [Watcher(watched), Watcher(watched)]  # EKS's states are set, so no line is proven
        tasks = [
            group.create_task(watcher.run(partial(fleet.__getitem__, replica)))
            for watcher, replica in zip(watchers, (0, 1), strict=True)
        ]
        await wait_until(lambda: all(watcher.messages for watcher in watchers))

        stopped = add_update(fleet, "prod-1")
        with fleet.fault("stop", database=True):
            await fleet.stop_postgres()
            results = await asyncio.gather(
                *(timed(clients.cancel(each, stopped, "stopped")) for each in (a, b))
            )
            assert [result for result, _ in results] == [REFUSED, REFUSED]
            assert max(seconds for _, seconds in results) < 1.5
            await asyncio.gather(*(each.client.wait_for_readiness(ready=False) for each in (a, b)))
            for watcher in watchers:
                await watch_one_change(fleet, watcher)
            assert fleet.eks.count("CancelUpdate") == 0
            await fleet.start_postgres()
        await asyncio.gather(*(each.client.wait_for_readiness() for each in (a, b)))
        await wait_for_ok(clients, fleet, stopped, "stopped")

        frozen = add_update(fleet, "prod-2")
        with fleet.fault("freeze", database=True):
            fleet.freeze_postgres()
            results = await asyncio.gather(
                *(timed(clients.cancel(each, frozen, "frozen")) for each in (a, b))
            )
            for watcher in watchers:
                await watch_one_change(fleet, watcher)
            fleet.wake_postgres()
        assert [result for result, _ in results] == [REFUSED, REFUSED]
        assert max(seconds for _, seconds in results) < 2 * COMMIT_S + 2
        await wait_for_ok(clients, fleet, frozen, "frozen")

        silent = add_update(fleet, "prod-3")
        with fleet.fault("silence", a, database=True):
            a.network.silence()
            result, seconds = await timed(clients.cancel(a, silent, "silent"))
            elsewhere = await clients.cancel(b, add_update(fleet, "prod-4"), "elsewhere")
            await watch_one_change(fleet, watchers[0])
            a.network.restore()
        assert (result, elsewhere.result) == (REFUSED, OK)
        assert seconds < 2 * COMMIT_S + 2
        await wait_for_ok(clients, fleet, silent, "silent")

        fleet.eks.set_update("prod-9", watched.update_id, status="Successful")
        await asyncio.wait(tasks, timeout=30)
        assert [watcher.statuses[-1] for watcher in watchers] == ["Successful", "Successful"]
        assert [watcher.streams for watcher in watchers] == [1, 1]
        await prove(fleet, clients)


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
        assert result.result == REFUSED
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
