"""One request, one effect: however often and by however many calls at once a cancel is asked for."""

from __future__ import annotations

import asyncio
import copy
from pathlib import Path
from typing import Any

import pytest

from eksgateway.errors import LedgerUnavailable
from eksgateway.ledger.protocol import Ledger
from eksgateway.model import Cancellation, Intent
from eksgateway.v1 import cancellation_pb2 as cpb
from eksgateway.v1 import update_service_pb2 as pb
from eksgateway.v1.update_pb2 import ClusterRef
from support.clock import settle
from support.gateway import POLICY_DATA, Running, running
from support.ledger import until
from support.simulator import SimulatedEks
from support.wire import PRODUCTION, Gate, hooked, recorded, refused, settled


async def test_ten_calls_at_once(tmp_path: Path, eks: SimulatedEks) -> None:
    """Ten calls with one request_id: one CancelUpdate, and one answer for all."""
    gate = Gate()
    async with running(tmp_path, eks, wrap_ledger=hooked(commit_intent=gate)) as gateway:
        update_id = eks.rollback("prod-1", tags=PRODUCTION)
        calls = [
            asyncio.ensure_future(gateway.cancel("prod-1", update_id, request_id="one")) for _ in range(10)
        ]
        await until(lambda: gate.came)
        gate.open()
        answers = await asyncio.gather(*calls)
        assert all(answer == answers[0] for answer in answers)
        assert gate.came == 1
        assert len(eks.calls("CancelUpdate")) == 1


async def test_two_callers_may_use_the_same_id(gateway: Running) -> None:
    """request_ids are each caller's own: two cancellations, each with a token of its own."""
    other = gateway.credentials("second", "oncall")
    mine = gateway.eks.rollback("prod-1", tags=PRODUCTION)
    theirs = gateway.eks.rollback("prod-2", tags=PRODUCTION)
    first, second = await asyncio.gather(
        gateway.cancel("prod-1", mine, request_id="same"),
        gateway.cancel("prod-2", theirs, other, request_id="same"),
    )
    assert first.cancellation_id != second.cancellation_id
    assert (first.caller, second.caller) == ("jwt:test:oncall", "jwt:test:second")
    assert len({call.token for call in gateway.eks.calls("CancelUpdate")}) == 2
    assert (await recorded(gateway, other, request_id="same")).update_id == theirs


OTHERS: dict[str, dict[str, Any]] = {
    "cluster": {"cluster": "prod-2"},
    "update": {"update_id": "another"},
    "reason": {"reason": "another"},
    "ticket": {"ticket": "another"},
}


async def test_an_id_used_with_other_parameters(tmp_path: Path, eks: SimulatedEks) -> None:
    """ALREADY_EXISTS, while the first is under way and later; the first is not touched by it."""
    gate = Gate()
    async with running(tmp_path, eks, wrap_ledger=hooked(commit_intent=gate)) as gateway:
        mine: dict[str, Any] = {"cluster": "prod-1", "update_id": eks.rollback("prod-1", tags=PRODUCTION)}
        first = asyncio.ensure_future(gateway.cancel(**mine, request_id="one"))
        await until(lambda: gate.came)
        for in_flight in (True, False):
            for change in OTHERS.values():
                refusal = await refused(gateway.cancel(**mine | change, request_id="one"))
                assert refusal.told == ("ALREADY_EXISTS", "REQUEST_ID_REUSED")
                assert refusal.metadata == {"request_id": "one"}
            assert first.done() != in_flight
            gate.open()
            await first
        assert len(eks.calls("CancelUpdate")) == 1


async def test_a_repeat_after_success(gateway: Running) -> None:
    """The recorded cancellation with its present phase, whatever became of it since; nothing is sent."""
    update_id = gateway.eks.rollback("prod-1", tags=PRODUCTION)
    first = await gateway.cancel("prod-1", update_id, request_id="one")
    assert await gateway.cancel("prod-1", update_id, request_id="one") == first
    gateway.eks.advance(121)
    ended = await settled(gateway, cpb.CANCELLATION_PHASE_CANCELLED, request_id="one")
    assert await gateway.cancel("prod-1", update_id, request_id="one") == ended
    assert len(gateway.eks.calls("CancelUpdate")) == 1


async def test_a_repeat_after_a_refusal(gateway: Running) -> None:
    """The same error again, byte for byte but for ids; EKS is not asked a second time."""
    update_id = gateway.eks.rollback("prod-1", tags=PRODUCTION, node_phase_s=60)
    gateway.eks.advance(61)
    first = await refused(gateway.cancel("prod-1", update_id, request_id="one"))
    gateway.eks.clear_calls()
    again = await refused(gateway.cancel("prod-1", update_id, request_id="one"))
    assert again.masked == first.masked
    assert again.metadata["phase"] == "TOO_LATE"
    assert again.metadata["eks_code"] == "InvalidStateException"
    assert gateway.eks.calls() == ()


async def test_a_repeat_while_the_outcome_is_unknown(gateway: Running) -> None:
    """UNAVAILABLE with the cancellation's id, never OK and never sent again, until looking settles it."""
    update_id = gateway.eks.rollback("prod-1", tags=PRODUCTION)
    gateway.eks.fault("CancelUpdate", drop="before")
    first = await refused(gateway.cancel("prod-1", update_id, request_id="one"))
    again = await refused(gateway.cancel("prod-1", update_id, request_id="one"))
    assert first.told == again.told == ("UNAVAILABLE", "OUTCOME_UNKNOWN")
    assert again.masked == first.masked
    assert again.metadata["cancellation_id"]
    gateway.eks.set_update("prod-1", update_id, status="Cancelling")
    await settled(gateway, cpb.CANCELLATION_PHASE_CANCELLING, request_id="one")
    told = await gateway.cancel("prod-1", update_id, request_id="one")
    assert told.phase == cpb.CANCELLATION_PHASE_CANCELLING
    assert told.cancellation_id == again.metadata["cancellation_id"]
    assert len(gateway.eks.calls("CancelUpdate")) == 1


async def test_a_repeat_of_what_was_not_forwarded(gateway: Running) -> None:
    """Decided anew, on what is so now, and sent with the token drawn the first time."""
    update_id = gateway.eks.rollback("prod-1", tags=PRODUCTION)
    gateway.eks.fault("CancelUpdate", code="ExpiredTokenException", status=403)
    first = await refused(gateway.cancel("prod-1", update_id, request_id="one"))
    before = await recorded(gateway, request_id="one")
    told = await gateway.cancel("prod-1", update_id, request_id="one")
    assert told.phase == cpb.CANCELLATION_PHASE_CANCELLING
    assert told.cancellation_id == first.metadata["cancellation_id"] == before.cancellation_id
    assert told.decision.decision_id != before.decision.decision_id
    assert told.create_time == before.create_time
    assert told.HasField("forward_time")
    one, two = gateway.eks.calls("CancelUpdate")
    assert one.token == two.token


async def test_a_repeat_of_what_was_not_forwarded_may_be_denied_now(gateway: Running) -> None:
    """Decided anew means that a tag changed meanwhile denies it: nothing is sent, the record stays."""
    update_id = gateway.eks.rollback("prod-1", tags=PRODUCTION)
    gateway.eks.fault("CancelUpdate", code="ExpiredTokenException", status=403)
    await refused(gateway.cancel("prod-1", update_id, request_id="one"))
    gateway.eks.rollback("prod-1", tags={"environment": "test"}, update_id=update_id)
    denied = await refused(gateway.cancel("prod-1", update_id, request_id="one"))
    assert denied.told == ("PERMISSION_DENIED", "POLICY_DENIED")
    found = await recorded(gateway, request_id="one")
    assert found.phase == cpb.CANCELLATION_PHASE_NOT_FORWARDED
    assert len(gateway.eks.calls("CancelUpdate")) == 1


async def test_a_repeat_after_the_policy_changed(tmp_path: Path, eks: SimulatedEks) -> None:
    """A repeat is authorised like any call, and GetCancellation tells one's own outcome all the same."""
    async with running(tmp_path, eks) as gateway:
        update_id = eks.rollback("prod-1", tags=PRODUCTION)
        first = await gateway.cancel("prod-1", update_id, request_id="one")
        issuer = gateway.issuer
    nothing: dict[str, Any] = {"eksgateway": {"grants": [], "freezes": []}}
    async with running(tmp_path, eks, data=nothing, issuer=issuer) as gateway:
        denied = await refused(gateway.cancel("prod-1", update_id, request_id="one"))
        assert denied.told == ("PERMISSION_DENIED", "POLICY_DENIED")
        found = await recorded(gateway, request_id="one")
        assert found.cancellation_id == first.cancellation_id
        assert len(eks.calls("CancelUpdate")) == 1


async def test_a_repeat_is_authorised_at_stage_request_only(gateway: Running) -> None:
    """The facts of a repeat are the recorded ones: a tag changed since does not hide the result."""
    update_id = gateway.eks.rollback("prod-1", tags=PRODUCTION)
    first = await gateway.cancel("prod-1", update_id, request_id="one")
    gateway.eks.fault("DescribeCluster", times=9, code="ServerException")
    assert (
        await gateway.cancel("prod-1", update_id, request_id="one")
    ).cancellation_id == first.cancellation_id


async def test_an_absent_id_gets_one(gateway: Running) -> None:
    """Each call gets its own, in the answer and in the trailers: calling again is a second cancel."""
    update_id = gateway.eks.rollback("prod-1", tags=PRODUCTION)
    told = await gateway.cancel("prod-1", update_id)
    assert told.request_id
    assert (await recorded(gateway, request_id=told.request_id)) == told
    again = await gateway.cancel("prod-1", update_id)
    assert again.request_id != told.request_id
    assert again.cancellation_id != told.cancellation_id
    assert len(gateway.eks.calls("CancelUpdate")) == 1  # the second found it Cancelling


def _narrow() -> dict[str, Any]:
    """The usual grants, and one that admits a group at stage request and never at stage update."""
    data = copy.deepcopy(POLICY_DATA)
    grant = data["eksgateway"]["grants"][0]
    narrow = grant | {"id": "narrow", "groups": ["test:narrow"], "update_types": ["VersionUpdate"]}
    data["eksgateway"]["grants"].append(narrow)
    return data


class Crossroads:
    """Counts the calls that passed stage request, and holds the leader's first read up."""

    def __init__(self) -> None:
        self.admitted = 0
        self.read = Gate()

    async def decide(self, question: Any) -> None:
        self.admitted += question.stage == "request" and question.caller.id == "jwt:test:oncall"

    async def waiting(self, calls: int) -> None:
        """Until so many calls wait for one flight."""
        await until(lambda: self.admitted == calls and self.read.came)
        await settle()


@pytest.fixture
async def crossing(tmp_path: Path, eks: SimulatedEks) -> Any:
    """A gateway at a crossroads; a call beyond the first joins it."""
    crossroads = Crossroads()
    async with running(
        tmp_path,
        eks,
        data=_narrow(),
        wrap_policy=hooked(decide=crossroads.decide),
        wrap_eks=hooked(describe_update=crossroads.read),
    ) as gateway:
        yield gateway, crossroads


async def test_a_joiner_takes_over_from_a_leader_who_is_denied(crossing: tuple[Running, Crossroads]) -> None:
    """One caller, two tokens: the denial of the one with fewer groups is not the other's."""
    gateway, crossroads = crossing
    update_id = gateway.eks.rollback("prod-1", tags=PRODUCTION)
    narrow = gateway.credentials("oncall", "narrow")
    leader = asyncio.ensure_future(refused(gateway.cancel("prod-1", update_id, narrow, request_id="one")))
    await crossroads.waiting(1)
    joiner = asyncio.ensure_future(gateway.cancel("prod-1", update_id, request_id="one"))
    await crossroads.waiting(2)
    assert crossroads.read.came == 1
    crossroads.read.open()
    assert (await leader).told == ("PERMISSION_DENIED", "POLICY_DENIED")
    assert (await joiner).phase == cpb.CANCELLATION_PHASE_CANCELLING
    assert len(gateway.eks.calls("CancelUpdate")) == 1


async def test_a_joiner_with_the_same_credentials_shares_the_denial(
    crossing: tuple[Running, Crossroads],
) -> None:
    """The same token would be denied again: one flight's denial is told to both."""
    gateway, crossroads = crossing
    update_id = gateway.eks.rollback("prod-1", tags={"environment": "test"})
    calls = []
    for number in (1, 2):
        calls.append(asyncio.ensure_future(refused(gateway.cancel("prod-1", update_id, request_id="one"))))
        await crossroads.waiting(number)
    crossroads.read.open()
    first, second = await asyncio.gather(*calls)
    assert first.told == second.told == ("PERMISSION_DENIED", "POLICY_DENIED")
    assert crossroads.read.came == 1


async def test_a_joiner_goes_on_when_the_leaders_client_is_gone(crossing: tuple[Running, Crossroads]) -> None:
    """Who asked first left before the intent: the work goes on for the one who still waits."""
    gateway, crossroads = crossing
    update_id = gateway.eks.rollback("prod-1", tags=PRODUCTION)
    leader = asyncio.ensure_future(gateway.cancel("prod-1", update_id, request_id="one"))
    await crossroads.waiting(1)
    joiner = asyncio.ensure_future(gateway.cancel("prod-1", update_id, request_id="one"))
    await crossroads.waiting(2)
    leader.cancel()
    await asyncio.wait({leader})
    await settle()
    crossroads.read.open()
    assert (await joiner).phase == cpb.CANCELLATION_PHASE_CANCELLING
    assert len(gateway.eks.calls("DescribeCluster")) == 1  # the same work, not begun anew
    assert len(gateway.eks.calls("CancelUpdate")) == 1


class LateCommit:
    """A ledger whose first intent is told as not committed, and is committed after all, later."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._late: asyncio.Task[Any] | None = None
        self._looked = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)

    async def commit_intent(self, intent: Intent) -> Cancellation:
        if self._late is None:
            self._late = asyncio.ensure_future(self._committed_after_the_next_look(intent))
            raise LedgerUnavailable
        await self._late
        return await self._ledger.commit_intent(intent)

    async def find(self, caller_id: str, request_id: str) -> Cancellation | None:
        found = await self._ledger.find(caller_id, request_id)
        if self._late is not None:
            self._looked.set()
        return found

    async def _committed_after_the_next_look(self, intent: Intent) -> None:
        await self._looked.wait()
        await self._ledger.commit_intent(intent)


async def test_a_repeat_while_a_lost_commit_lands_is_not_told_to_choose_another_id(
    tmp_path: Path, eks: SimulatedEks
) -> None:
    """Another id would be a second cancel: the same call may be made again, and nothing was sent."""
    async with running(tmp_path, eks, wrap_ledger=LateCommit) as gateway:
        update_id = eks.rollback("prod-1", tags=PRODUCTION)
        first = await refused(gateway.cancel("prod-1", update_id, request_id="one"))
        assert first.told == ("UNAVAILABLE", "LEDGER_UNAVAILABLE")
        second = await refused(gateway.cancel("prod-1", update_id, request_id="one"))
        assert second.told == ("UNAVAILABLE", "LEDGER_UNAVAILABLE")
        assert second.retry_s is not None
        assert eks.calls("CancelUpdate") == ()


async def test_a_joiner_that_asks_for_less_is_not_refused_for_the_rest(
    tmp_path: Path, eks: SimulatedEks
) -> None:
    """The leader wanted to watch as well, and may not; the plain cancel of the one who joined it goes on."""
    data = copy.deepcopy(POLICY_DATA)
    oncall = data["eksgateway"]["grants"][0]
    oncall["actions"] = [action for action in oncall["actions"] if action != "watch"]
    watchable = {**oncall, "id": "watchable", "actions": ["watch"], "tags": {"watchable": ["yes"]}}
    del watchable["update_types"], watchable["require"]
    data["eksgateway"]["grants"] += [watchable]
    gate = Gate()
    wrap = hooked(describe_update=gate)
    async with running(tmp_path, eks, data=data, wrap_eks=wrap) as gateway:
        update_id = eks.rollback("prod-1", tags=PRODUCTION)
        request = pb.CancelUpdateAndWatchRequest(
            cluster=ClusterRef(name="prod-1"), update_id=update_id, request_id="one", reason="r", ticket="t"
        )
        stream = gateway.updates.CancelUpdateAndWatch(request, metadata=gateway.oncall)
        leader = asyncio.ensure_future(refused(stream.read()))
        await until(lambda: gate.came)
        joiner = asyncio.ensure_future(
            gateway.cancel("prod-1", update_id, request_id="one", reason="r", ticket="t")
        )
        await until(lambda: _waiting(gateway) == 2)
        gate.open()
        assert (await leader).told == ("PERMISSION_DENIED", "POLICY_DENIED")
        assert (await joiner).update.status == "Cancelling"


def _waiting(gateway: Running) -> int:
    """How many calls wait for a flight."""
    flights = gateway.gateway.cancellations._flights  # noqa: SLF001  nobody else is told who waits
    return sum(flight.waiting for flight in flights.values())
