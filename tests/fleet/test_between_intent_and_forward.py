"""A replica that dies or freezes between the commit of its intent and the forward sends nothing later."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import time

from eksgateway.model import UpdateRef
from eksgateway.v1 import cancellation_pb2 as cpb
from support.fleet.clients import Clients, update_ref
from support.fleet.history import NO_ANSWER, OK, Attempt
from support.fleet.proof import prove
from support.fleet.replicas import Fleet, run_fleet
from support.waiting import wait_until
from support.wire import PRODUCTION, wait_for_phase

MAX_AGE_S = 3  # decision_max_age_s
FORWARD_S = MAX_AGE_S + 1 + 3 + 3  # until forward_before: see the design


Held = tuple[UpdateRef, asyncio.Task[Attempt]]


def add_update(fleet: Fleet, cluster: str) -> UpdateRef:
    return update_ref(cluster, fleet.eks.rollback(cluster, tags=PRODUCTION))


@asynccontextmanager
async def hold_at_intent(fleet: Fleet, clients: Clients) -> AsyncIterator[Held]:
    """The first replica has committed an intent, and waits for the answer to its COMMIT."""
    ref = add_update(fleet, "prod-1")
    fleet[0].network.hold_answer_to(b"COMMIT\0")
    task = asyncio.create_task(clients.cancel(fleet[0], ref, "held"))
    await wait_until(fleet[0].network.held.is_set)
    await wait_until(fleet.read_events)
    yield ref, task


async def test_killed_replica_leaves_an_intent_that_is_never_sent(tmp_path: Path) -> None:
    """Another replica waits for its outcome, then answers OUTCOME_UNKNOWN with the id, and follows it."""
    clients = Clients()
    async with run_fleet(tmp_path, 2) as fleet:
        b = fleet[1]
        async with hold_at_intent(fleet, clients) as (ref, held):
            with fleet.fault("kill", fleet[0], ends=True):
                await fleet[0].kill()
                began = time()
                unknown = await clients.cancel(b, ref, "held")
            assert (await held).result == NO_ANSWER
        assert (unknown.result, bool(unknown.cancellation_id)) == ("OUTCOME_UNKNOWN", True)
        assert time() - began < FORWARD_S + 2
        assert (await clients.cancel(b, ref, "held", "another")).result == "REQUEST_ID_REUSED"
        assert fleet.eks.count("CancelUpdate") == 0
        # A new request_id sends again, and the update's end settles both.
        assert (await clients.cancel(b, ref, "again")).result == OK
        fleet.eks.advance(3600)
        await wait_for_phase(
            b.client, cpb.CANCELLATION_PHASE_CANCELLED, cancellation_id=unknown.cancellation_id
        )
        assert fleet.eks.count("CancelUpdate") == 1


async def test_frozen_replica_that_wakes_sends_nothing(tmp_path: Path) -> None:
    """Its decision is too old by then; meanwhile the other replica answers for itself.

    The wait for a token refuses it, before ``eks.send_gate``. tests/eks/test_http_sender.py has the test of a
    cancel that gets too old behind its token: ``test_a_cancel_is_not_sent_late_after_a_slow_connection``.
    """
    clients = Clients()
    async with run_fleet(
        tmp_path, 2, ledger={"commit_timeout_s": 30}
    ) as fleet:  # else the commit is given up
        a, b = fleet.replicas
        async with hold_at_intent(fleet, clients) as (ref, held):
            with fleet.fault("freeze", a):
                a.freeze()
                a.network.release()
                other = await clients.cancel(b, add_update(fleet, "prod-2"), "other")
                unknown = await clients.cancel(b, ref, "held")
                a.wake()
            answer = await held
        assert other.result == OK
        assert unknown.result == "OUTCOME_UNKNOWN"
        assert answer.result == "DECISION_STALE"
        assert fleet.eks.count("CancelUpdate") == 1
        # The intent is closed, so that the same request_id may be sent again.
        assert (await clients.cancel(b, ref, "held")).result == OK
        fleet.eks.advance(3600)
        await prove(fleet, clients)


async def test_lost_answer_to_a_commit_means_nothing_is_sent(tmp_path: Path) -> None:
    """The replica that does not learn whether its intent was committed closes it, and a repeat is sent."""
    clients = Clients()
    async with run_fleet(tmp_path, 2) as fleet:
        async with hold_at_intent(fleet, clients) as (ref, held):
            with fleet.fault("cut", fleet[0], database=True):
                fleet[0].network.cut()
                answer = await held
        assert answer.result == "LEDGER_UNAVAILABLE"
        assert fleet.eks.count("CancelUpdate") == 0
        attempt = await clients.cancel(fleet[1], ref, "held")
        while attempt.result != OK:
            assert attempt.result in {"LEDGER_UNAVAILABLE", "DECISION_STALE"}, attempt
            attempt = await clients.cancel(fleet[1], ref, "held")
        fleet.eks.advance(3600)
        await prove(fleet, clients)
