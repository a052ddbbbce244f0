"""A watch goes on at another replica with its resume token, whatever happened to the first one."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Final

from eksgateway.model import UpdateRef
from support.fleet.clients import Clients, Watcher, update_ref
from support.fleet.history import OK
from support.fleet.proof import prove
from support.fleet.replicas import Fleet, run_fleet
from support.waiting import wait_until
from support.wire import PRODUCTION

Heal = Callable[[Fleet], Awaitable[None]]


async def kill(fleet: Fleet) -> None:
    with fleet.fault("kill", fleet[0], ends=True):
        await fleet[0].kill()


async def drain(fleet: Fleet) -> None:
    with fleet.fault("end", fleet[0], ends=True):
        assert await fleet[0].end() == 0


async def freeze(fleet: Fleet) -> None:
    fleet[0].freeze()


async def leave(fleet: Fleet) -> None:  # noqa: ARG001  its client reconnects
    return


async def start(fleet: Fleet) -> None:
    await fleet[0].start()


async def wake(fleet: Fleet) -> None:
    fleet[0].wake()


async def restart_postgres(fleet: Fleet) -> None:
    with fleet.fault("restart", database=True):
        await fleet.stop_postgres(signal.SIGQUIT)
        await fleet.start_postgres()


async def silence(fleet: Fleet) -> None:
    fleet[0].network.silence()


async def restore(fleet: Fleet) -> None:
    fleet[0].network.restore()


FAULTS: Final[dict[str, tuple[Heal, Heal]]] = {
    "left": (leave, leave),
    "killed": (kill, start),
    "drained": (drain, start),
    "frozen": (freeze, wake),
    "silent": (silence, restore),
    "restarted": (restart_postgres, leave),
}


async def test_watch_moves_to_another_replica_over_each_fault(tmp_path: Path) -> None:
    """Sequences go on without a gap, and no state comes twice or late: the validator proves each line."""
    clients = Clients()
    async with run_fleet(tmp_path, 2) as fleet:
        for number, (name, (hurt, heal)) in enumerate(FAULTS.items()):
            cluster = f"prod-{number}"
            plan = {"cancel_delay_s": 0.5, "node_replacing_s": 1.5}
            ref = update_ref(cluster, fleet.eks.rollback(cluster, tags=PRODUCTION, **plan))
            watcher, places = clients.watcher(ref), iter(fleet.replicas)
            watching = asyncio.create_task(watcher.run(partial(next, places, fleet[1])))
            await wait_for_messages_of(watcher, "a")
            with fleet.fault(name, fleet[0], database=True):
                await hurt(fleet)
                watcher.moved.set()
                await wait_for_messages_of(watcher, "b")
                assert (await cancel(clients, fleet, ref, name)) == OK
                await asyncio.wait_for(watching, 60)
                await heal(fleet)
            assert watcher.statuses[0] == "InProgress"
            assert watcher.statuses[-1] == "Cancelled"
            assert {message.replica for message in watcher.messages} == {"a", "b"}
            await asyncio.gather(*(replica.client.wait_for_readiness() for replica in fleet.replicas))
        await prove(fleet, clients)


async def wait_for_messages_of(watcher: Watcher, replica: str) -> None:
    await wait_until(lambda: watcher.messages and watcher.messages[-1].replica == replica)


async def cancel(clients: Clients, fleet: Fleet, ref: UpdateRef, request_id: str) -> str:
    """At the second replica, until PostgreSQL is back."""
    while True:
        result = (await clients.cancel(fleet[1], ref, request_id)).result
        if result != "LEDGER_UNAVAILABLE":
            return result
