"""A replica that stops while it holds the chain's lock loses it, and commits nothing when it goes on."""

from __future__ import annotations

import asyncio
from pathlib import Path

from support.fleet.clients import Clients, update_ref
from support.fleet.history import OK
from support.fleet.proof import prove
from support.fleet.replicas import run_fleet
from support.waiting import wait_until
from support.wire import PRODUCTION


async def test_frozen_holder_of_the_lock_loses_it(tmp_path: Path) -> None:
    """Others commit within seconds. The holder's own cancel is not sent until a repeat decides it anew."""
    clients = Clients()
    async with run_fleet(tmp_path, 2) as fleet:
        a, b = fleet.replicas
        held, other = (
            update_ref(name, fleet.eks.rollback(name, tags=PRODUCTION, node_replacing_s=1))
            for name in ("prod-1", "prod-2")
        )
        with fleet.fault("freeze", a):
            a.network.hold_answer_to(b"pg_advisory_xact_lock")
            cancelling = asyncio.create_task(clients.cancel(a, held, "held"))
            await wait_until(a.network.held.is_set)
            a.freeze()
            async with asyncio.timeout(15):
                while (await clients.cancel(b, other, "other")).result != OK:
                    pass
            a.network.release()
            a.wake()
        answer = await cancelling
        assert answer.result in {"LEDGER_UNAVAILABLE", "DECISION_STALE"}
        assert fleet.eks.count("CancelUpdate") == 1
        async with asyncio.timeout(30):
            while (await clients.cancel(b, held, "held")).result != OK:
                pass
        await prove(fleet, clients)
