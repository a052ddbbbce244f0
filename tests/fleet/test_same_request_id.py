"""One request_id on several replicas at once has one effect and one answer."""

from __future__ import annotations

import asyncio
from pathlib import Path

from eksgateway.model import UpdateRef
from support.fleet.clients import Clients, update_ref
from support.fleet.history import OK
from support.fleet.proof import prove
from support.fleet.replicas import Fleet, run_fleet
from support.wire import PRODUCTION, get_cancellation


def add_update(fleet: Fleet, cluster: str, **plan: float) -> UpdateRef:
    """An update whose cancel takes a second."""
    plan = {"cancel_delay_s": 0.3, "node_replacing_s": 0.7} | plan
    return update_ref(cluster, fleet.eks.rollback(cluster, tags=PRODUCTION, **plan))


async def test_request_id_has_one_effect_on_all_replicas(tmp_path: Path) -> None:
    """Equal calls get one id and OK, also while EKS is slow; other parameters are refused, also later."""
    clients = Clients()
    async with run_fleet(tmp_path) as fleet:
        a, b, c = fleet.replicas
        equal, slow, mixed = (add_update(fleet, f"prod-{number}") for number in (1, 2, 3))

        answers = await asyncio.gather(*(clients.cancel(each, equal, "equal") for each in (a, b, c, a)))
        assert {answer.result for answer in answers} == {OK}
        assert len({answer.cancellation_id for answer in answers}) == 1

        fleet.eks.fault("CancelUpdate", delay_s=1.5)
        answers = await asyncio.gather(*(clients.cancel(each, slow, "slow") for each in (a, b)))
        assert {answer.result for answer in answers} == {OK}

        answers = await asyncio.gather(
            *(clients.cancel(each, mixed, "mixed", reason) for each in (a, b, c) for reason in ("one", "two"))
        )
        carried_out = {answer.request for answer in answers if answer.result == OK}
        assert len(carried_out) == 1
        assert {answer.result for answer in answers} == {OK, "REQUEST_ID_REUSED"}

        later = await clients.cancel(c, equal, "equal")
        assert (later.result, later.cancellation_id) == (OK, clients.attempts[0].cancellation_id)
        assert (await clients.cancel(b, equal, "equal", "two")).result == "REQUEST_ID_REUSED"
        record = await get_cancellation(b.client, cancellation_id=later.cancellation_id)
        assert record.request_id == "equal"
        assert fleet.eks.count("CancelUpdate") == 3
        await prove(fleet, clients)


async def test_request_ids_are_of_their_callers(tmp_path: Path) -> None:
    """Two callers may use the same id on two replicas at once, and neither reads the other's by it."""
    clients = Clients()
    async with run_fleet(tmp_path, 2) as fleet:
        one, other = add_update(fleet, "prod-1"), add_update(fleet, "prod-2")
        answers = await asyncio.gather(
            clients.cancel(fleet[0], one, "same", subject="ann"),
            clients.cancel(fleet[1], other, "same", subject="bob"),
        )
        assert [answer.result for answer in answers] == [OK, OK]
        assert answers[0].cancellation_id != answers[1].cancellation_id
        await prove(fleet, clients)
