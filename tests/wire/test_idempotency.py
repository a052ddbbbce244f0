"""One request_id, one effect: repeated and concurrent cancels."""

from __future__ import annotations

import asyncio
import copy
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from eksgateway.errors import LedgerUnavailable
from eksgateway.ledger.protocol import Ledger, Recorded
from eksgateway.model import Cancellation, Intent
from eksgateway.v1 import cancellation_pb2 as cpb
from eksgateway.v1 import update_service_pb2 as pb
from eksgateway.v1.update_pb2 import ClusterRef
from support.clock import settle
from support.gateway import POLICY_DATA, RunningGateway, run_gateway
from support.simulator import SimulatedEks
from support.waiting import wait_until
from support.wire import PRODUCTION, Gate, add_hooks, expect_refusal, get_cancellation, wait_for_phase


async def test_ten_concurrent_calls_send_one_cancel(tmp_path: Path, eks: SimulatedEks) -> None:
    gate = Gate()
    async with run_gateway(tmp_path, eks, wrap_ledger=add_hooks(commit_intent=gate)) as gateway:
        update_id = eks.rollback("prod-1", tags=PRODUCTION)
        calls = [
            asyncio.ensure_future(gateway.cancel("prod-1", update_id, request_id="one")) for _ in range(10)
        ]
        await wait_until(lambda: gate.entered)
        gate.open()
        answers = await asyncio.gather(*calls)
        assert all(answer == answers[0] for answer in answers)
        assert gate.entered == 1
        assert len(eks.calls("CancelUpdate")) == 1


async def test_two_callers_may_use_the_same_request_id(gateway: RunningGateway) -> None:
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
    assert (await get_cancellation(gateway, other, request_id="same")).update_id == theirs


OTHERS: dict[str, dict[str, Any]] = {
    "cluster": {"cluster": "prod-2"},
    "update": {"update_id": "another"},
    "reason": {"reason": "another"},
    "ticket": {"ticket": "another"},
}


async def test_request_id_with_other_parameters_is_refused(tmp_path: Path, eks: SimulatedEks) -> None:
    """ALREADY_EXISTS, during the first call and later."""
    gate = Gate()
    async with run_gateway(tmp_path, eks, wrap_ledger=add_hooks(commit_intent=gate)) as gateway:
        mine: dict[str, Any] = {"cluster": "prod-1", "update_id": eks.rollback("prod-1", tags=PRODUCTION)}
        first = asyncio.ensure_future(gateway.cancel(**mine, request_id="one"))
        await wait_until(lambda: gate.entered)
        for in_flight in (True, False):
            for change in OTHERS.values():
                refusal = await expect_refusal(gateway.cancel(**mine | change, request_id="one"))
                assert refusal.status_and_reason == ("ALREADY_EXISTS", "REQUEST_ID_REUSED")
                assert refusal.metadata == {"request_id": "one"}
            assert first.done() != in_flight
            gate.open()
            await first
        assert len(eks.calls("CancelUpdate")) == 1


async def test_repeat_after_success_returns_the_record(gateway: RunningGateway) -> None:
    """With its present phase; nothing is sent."""
    update_id = gateway.eks.rollback("prod-1", tags=PRODUCTION)
    first = await gateway.cancel("prod-1", update_id, request_id="one")
    assert await gateway.cancel("prod-1", update_id, request_id="one") == first
    gateway.eks.advance(121)
    ended = await wait_for_phase(gateway, cpb.CANCELLATION_PHASE_CANCELLED, request_id="one")
    assert await gateway.cancel("prod-1", update_id, request_id="one") == ended
    assert len(gateway.eks.calls("CancelUpdate")) == 1


async def test_repeat_after_a_refusal_returns_the_recorded_error(gateway: RunningGateway) -> None:
    """Equal bytes except for ids."""
    update_id = gateway.eks.rollback("prod-1", tags=PRODUCTION, node_phase_s=60)
    gateway.eks.advance(61)
    first = await expect_refusal(gateway.cancel("prod-1", update_id, request_id="one"))
    gateway.eks.clear_calls()
    again = await expect_refusal(gateway.cancel("prod-1", update_id, request_id="one"))
    assert again.masked == first.masked
    assert again.metadata["phase"] == "TOO_LATE"
    assert again.metadata["eks_code"] == "InvalidStateException"
    assert gateway.eks.calls() == ()


async def test_repeat_while_the_outcome_is_unknown_is_unavailable(gateway: RunningGateway) -> None:
    """Never OK and never sent again, until polling settles it."""
    update_id = gateway.eks.rollback("prod-1", tags=PRODUCTION)
    gateway.eks.fault("CancelUpdate", drop="before")
    first = await expect_refusal(gateway.cancel("prod-1", update_id, request_id="one"))
    again = await expect_refusal(gateway.cancel("prod-1", update_id, request_id="one"))
    assert first.status_and_reason == again.status_and_reason == ("UNAVAILABLE", "OUTCOME_UNKNOWN")
    assert again.masked == first.masked
    assert again.metadata["cancellation_id"]
    gateway.eks.set_update("prod-1", update_id, status="Cancelling")
    await wait_for_phase(gateway, cpb.CANCELLATION_PHASE_CANCELLING, request_id="one")
    told = await gateway.cancel("prod-1", update_id, request_id="one")
    assert told.phase == cpb.CANCELLATION_PHASE_CANCELLING
    assert told.cancellation_id == again.metadata["cancellation_id"]
    assert len(gateway.eks.calls("CancelUpdate")) == 1


async def test_repeat_of_a_cancel_that_was_not_forwarded_is_sent(gateway: RunningGateway) -> None:
    """Decided anew, with the first token."""
    update_id = gateway.eks.rollback("prod-1", tags=PRODUCTION)
    gateway.eks.fault("CancelUpdate", code="ExpiredTokenException", status=403)
    first = await expect_refusal(gateway.cancel("prod-1", update_id, request_id="one"))
    before = await get_cancellation(gateway, request_id="one")
    told = await gateway.cancel("prod-1", update_id, request_id="one")
    assert told.phase == cpb.CANCELLATION_PHASE_CANCELLING
    assert told.cancellation_id == first.metadata["cancellation_id"] == before.cancellation_id
    assert told.decision.decision_id != before.decision.decision_id
    assert told.create_time == before.create_time
    assert told.HasField("forward_time")
    one, two = gateway.eks.calls("CancelUpdate")
    assert one.token == two.token


async def test_repeat_of_a_cancel_that_was_not_forwarded_may_be_denied(gateway: RunningGateway) -> None:
    update_id = gateway.eks.rollback("prod-1", tags=PRODUCTION)
    gateway.eks.fault("CancelUpdate", code="ExpiredTokenException", status=403)
    await expect_refusal(gateway.cancel("prod-1", update_id, request_id="one"))
    gateway.eks.rollback("prod-1", tags={"environment": "test"}, update_id=update_id)
    denied = await expect_refusal(gateway.cancel("prod-1", update_id, request_id="one"))
    assert denied.status_and_reason == ("PERMISSION_DENIED", "POLICY_DENIED")
    found = await get_cancellation(gateway, request_id="one")
    assert found.phase == cpb.CANCELLATION_PHASE_NOT_FORWARDED
    assert len(gateway.eks.calls("CancelUpdate")) == 1


async def test_repeat_after_a_policy_change_is_denied(tmp_path: Path, eks: SimulatedEks) -> None:
    """GetCancellation still returns the caller's own outcome."""
    async with run_gateway(tmp_path, eks) as gateway:
        update_id = eks.rollback("prod-1", tags=PRODUCTION)
        first = await gateway.cancel("prod-1", update_id, request_id="one")
        issuer = gateway.issuer
    nothing: dict[str, Any] = {"eksgateway": {"grants": [], "freezes": []}}
    async with run_gateway(tmp_path, eks, data=nothing, issuer=issuer) as gateway:
        denied = await expect_refusal(gateway.cancel("prod-1", update_id, request_id="one"))
        assert denied.status_and_reason == ("PERMISSION_DENIED", "POLICY_DENIED")
        found = await get_cancellation(gateway, request_id="one")
        assert found.cancellation_id == first.cancellation_id
        assert len(eks.calls("CancelUpdate")) == 1


async def test_repeat_is_authorized_at_stage_request_only(gateway: RunningGateway) -> None:
    """A tag that changed since does not hide the result."""
    update_id = gateway.eks.rollback("prod-1", tags=PRODUCTION)
    first = await gateway.cancel("prod-1", update_id, request_id="one")
    gateway.eks.fault("DescribeCluster", times=9, code="ServerException")
    assert (
        await gateway.cancel("prod-1", update_id, request_id="one")
    ).cancellation_id == first.cancellation_id


async def test_call_without_request_id_gets_one(gateway: RunningGateway) -> None:
    """Another call is a second cancel."""
    update_id = gateway.eks.rollback("prod-1", tags=PRODUCTION)
    told = await gateway.cancel("prod-1", update_id)
    assert told.request_id
    assert (await get_cancellation(gateway, request_id=told.request_id)) == told
    again = await gateway.cancel("prod-1", update_id)
    assert again.request_id != told.request_id
    assert again.cancellation_id != told.cancellation_id
    assert len(gateway.eks.calls("CancelUpdate")) == 1  # at the second it was Cancelling


def _narrow() -> dict[str, Any]:
    """The usual grants, and one that allows a group at stage request but never at stage update."""
    data = copy.deepcopy(POLICY_DATA)
    grant = data["eksgateway"]["grants"][0]
    narrow = grant | {"id": "narrow", "groups": ["test:narrow"], "update_types": ["VersionUpdate"]}
    data["eksgateway"]["grants"].append(narrow)
    return data


class Crossroads:
    """Counts the calls that passed stage request, and holds the first call's read."""

    def __init__(self) -> None:
        self.admitted = 0
        self.read = Gate()

    async def decide(self, question: Any) -> None:
        self.admitted += question.stage == "request" and question.caller.id == "jwt:test:oncall"

    async def wait_for_calls(self, calls: int) -> None:
        """Wait until so many calls wait for one cancel."""
        await wait_until(lambda: self.admitted == calls and self.read.entered)
        await settle()


@pytest.fixture
async def crossing(tmp_path: Path, eks: SimulatedEks) -> Any:
    """A gateway whose first call is held, so that further calls join it."""
    crossroads = Crossroads()
    async with run_gateway(
        tmp_path,
        eks,
        data=_narrow(),
        wrap_policy=add_hooks(decide=crossroads.decide),
        wrap_eks=add_hooks(describe_update=crossroads.read),
    ) as gateway:
        yield gateway, crossroads


async def test_joined_call_takes_over_when_the_first_is_denied(
    crossing: tuple[RunningGateway, Crossroads],
) -> None:
    """One caller with two tokens of different groups."""
    gateway, crossroads = crossing
    update_id = gateway.eks.rollback("prod-1", tags=PRODUCTION)
    narrow = gateway.credentials("oncall", "narrow")
    leader = asyncio.ensure_future(
        expect_refusal(gateway.cancel("prod-1", update_id, narrow, request_id="one"))
    )
    await crossroads.wait_for_calls(1)
    joiner = asyncio.ensure_future(gateway.cancel("prod-1", update_id, request_id="one"))
    await crossroads.wait_for_calls(2)
    assert crossroads.read.entered == 1
    crossroads.read.open()
    assert (await leader).status_and_reason == ("PERMISSION_DENIED", "POLICY_DENIED")
    assert (await joiner).phase == cpb.CANCELLATION_PHASE_CANCELLING
    assert len(gateway.eks.calls("CancelUpdate")) == 1


async def test_joined_call_with_the_same_token_shares_the_denial(
    crossing: tuple[RunningGateway, Crossroads],
) -> None:
    gateway, crossroads = crossing
    update_id = gateway.eks.rollback("prod-1", tags={"environment": "test"})
    calls = []
    for number in (1, 2):
        calls.append(
            asyncio.ensure_future(expect_refusal(gateway.cancel("prod-1", update_id, request_id="one")))
        )
        await crossroads.wait_for_calls(number)
    crossroads.read.open()
    first, second = await asyncio.gather(*calls)
    assert first.status_and_reason == second.status_and_reason == ("PERMISSION_DENIED", "POLICY_DENIED")
    assert crossroads.read.entered == 1


async def test_joined_call_goes_on_when_the_first_client_leaves(
    crossing: tuple[RunningGateway, Crossroads],
) -> None:
    gateway, crossroads = crossing
    update_id = gateway.eks.rollback("prod-1", tags=PRODUCTION)
    leader = asyncio.ensure_future(gateway.cancel("prod-1", update_id, request_id="one"))
    await crossroads.wait_for_calls(1)
    joiner = asyncio.ensure_future(gateway.cancel("prod-1", update_id, request_id="one"))
    await crossroads.wait_for_calls(2)
    leader.cancel()
    await asyncio.wait({leader})
    await settle()
    crossroads.read.open()
    assert (await joiner).phase == cpb.CANCELLATION_PHASE_CANCELLING
    assert len(gateway.eks.calls("DescribeCluster")) == 1  # the work did not start again
    assert len(gateway.eks.calls("CancelUpdate")) == 1


class LateCommit:
    """A ledger that reports its first intent as not committed, and commits it later."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._late: asyncio.Task[Any] | None = None
        self._looked = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)

    async def commit_intent(self, intent: Intent, forward_s: float) -> Cancellation:
        if self._late is None:
            self._late = asyncio.ensure_future(self._commit_later(intent, forward_s))
            raise LedgerUnavailable
        await self._late
        return await self._ledger.commit_intent(intent, forward_s)

    async def look_up(self, caller_id: str, request_id: str) -> Recorded | None:
        found = await self._ledger.look_up(caller_id, request_id)
        if self._late is not None:
            self._looked.set()
        return found

    async def _commit_later(self, intent: Intent, forward_s: float) -> None:
        await self._looked.wait()
        await self._ledger.commit_intent(intent, forward_s)


async def test_repeat_during_a_late_commit_keeps_its_request_id(tmp_path: Path, eks: SimulatedEks) -> None:
    """A new id would be a second cancel."""
    async with run_gateway(tmp_path, eks, wrap_ledger=LateCommit) as gateway:
        update_id = eks.rollback("prod-1", tags=PRODUCTION)
        first = await expect_refusal(gateway.cancel("prod-1", update_id, request_id="one"))
        assert first.status_and_reason == ("UNAVAILABLE", "LEDGER_UNAVAILABLE")
        second = await expect_refusal(gateway.cancel("prod-1", update_id, request_id="one"))
        assert second.status_and_reason == ("UNAVAILABLE", "LEDGER_UNAVAILABLE")
        assert second.retry_s is not None
        assert eks.calls("CancelUpdate") == ()


async def test_joined_cancel_is_not_denied_for_the_first_calls_watch(
    tmp_path: Path, eks: SimulatedEks
) -> None:
    data = copy.deepcopy(POLICY_DATA)
    oncall = data["eksgateway"]["grants"][0]
    oncall["actions"] = [action for action in oncall["actions"] if action != "watch"]
    watchable = {**oncall, "id": "watchable", "actions": ["watch"], "tags": {"watchable": ["yes"]}}
    del watchable["update_types"], watchable["require"]
    data["eksgateway"]["grants"] += [watchable]
    gate = Gate()
    wrap = add_hooks(describe_update=gate)
    async with run_gateway(tmp_path, eks, data=data, wrap_eks=wrap) as gateway:
        update_id = eks.rollback("prod-1", tags=PRODUCTION)
        request = pb.CancelUpdateAndWatchRequest(
            cluster=ClusterRef(name="prod-1"), update_id=update_id, request_id="one", reason="r", ticket="t"
        )
        stream = gateway.updates.CancelUpdateAndWatch(request, metadata=gateway.oncall)
        leader = asyncio.ensure_future(expect_refusal(stream.read()))
        await wait_until(lambda: gate.entered)
        joiner = asyncio.ensure_future(
            gateway.cancel("prod-1", update_id, request_id="one", reason="r", ticket="t")
        )
        await wait_until(lambda: _count_waiting(gateway) == 2)
        gate.open()
        assert (await leader).status_and_reason == ("PERMISSION_DENIED", "POLICY_DENIED")
        assert (await joiner).update.status == "Cancelling"


def _count_waiting(gateway: RunningGateway) -> int:
    """How many calls wait for a cancel in progress."""
    runs = chain.from_iterable(gateway.gateway.cancels.in_progress.values())
    return sum(shared.task.waiting for shared in runs)
