"""One request_id has one effect and one answer, whichever replicas it meets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from eksgateway import errors
from eksgateway.v1 import cancellation_pb2 as cpb
from support.gateway import RunningGateway
from support.pairs import HASTY, run_pair
from support.postgres import LedgerDatabase
from support.simulator import SimulatedEks
from support.waiting import wait_until
from support.wire import PRODUCTION, Gate, Hook, add_hooks, expect_refusal, get_cancellation, wait_for_phase

Pair = tuple[RunningGateway, RunningGateway]


@pytest.fixture
async def eks() -> AsyncIterator[SimulatedEks]:
    async with SimulatedEks() as simulated:
        yield simulated


def cancel(here: RunningGateway, update_id: str, **fields: Any) -> asyncio.Task[cpb.Cancellation]:
    return asyncio.create_task(here.cancel("prod-1", update_id, request_id="one", **fields))


async def wait_for_join(here: RunningGateway) -> None:
    """Wait until a cancel of this gateway waits for another replica's."""
    await wait_until(lambda: [one for one in progress(here) if one.cancellation_id and not one.forwards])


def progress(here: RunningGateway) -> list[Any]:
    return [shared.progress for runs in here.gateway.cancels.in_progress.values() for shared in runs]


def fail_times(times: int) -> Hook:
    """A hook that fails these first calls."""
    left = times

    async def fail(*_: Any) -> None:
        nonlocal left
        left -= 1
        if left >= 0:
            raise errors.LedgerUnavailable

    return fail


async def test_equal_cancels_at_two_replicas_at_once_are_one(
    tmp_path: Path, eks: SimulatedEks, ledger_database: LedgerDatabase
) -> None:
    async with run_pair(tmp_path, eks, ledger_database) as (one, other):
        for cluster in ("prod-1", "prod-2", "prod-3"):
            update_id = eks.rollback(cluster, tags=PRODUCTION)
            calls = [here.cancel(cluster, update_id, request_id=cluster) for here in (one, other, one, other)]
            first, *repeats = await asyncio.gather(*calls)
            assert {each.cancellation_id for each in repeats} == {first.cancellation_id}
            assert {each.decision.decision_id for each in repeats} == {first.decision.decision_id}
        assert len({call.token for call in eks.calls("CancelUpdate")}) == 3
        assert len(eks.calls("CancelUpdate")) == 3


async def test_a_cancel_in_flight_is_joined_with_its_answer(
    tmp_path: Path, eks: SimulatedEks, ledger_database: LedgerDatabase
) -> None:
    """The joiner reads nothing of EKS and asks no policy of its own at stage update."""
    gate = Gate()
    first = {"wrap_eks": add_hooks(cancel_update=gate)}
    async with run_pair(tmp_path, eks, ledger_database, first=first) as (one, other):
        update_id = eks.rollback("prod-1", tags=PRODUCTION, cancel_delay_s=3600)
        leader = cancel(one, update_id)
        await wait_until(lambda: gate.entered)
        found = await other.gateway.ledger.look_up("jwt:test:oncall", "one")
        assert found is not None
        # What is left of the decision's age, connect_timeout_s, cancel_read_timeout_s, and 3 s.
        assert 30 + 30 + 3 < found.in_flight_s <= 60 + 30 + 30 + 3
        before = len(eks.calls())
        joiner = cancel(other, update_id)
        await wait_for_join(other)
        assert len(eks.calls()) == before
        gate.open()
        assert await joiner == await leader
        assert len(eks.calls("CancelUpdate")) == 1


async def test_a_joiner_gets_the_refusal_of_the_first_call(
    tmp_path: Path, eks: SimulatedEks, ledger_database: LedgerDatabase
) -> None:
    gate = Gate()
    first = {"wrap_eks": add_hooks(cancel_update=gate)}
    async with run_pair(tmp_path, eks, ledger_database, first=first) as (one, other):
        update_id = eks.rollback("prod-1", tags=PRODUCTION)
        eks.fault("CancelUpdate", code="InvalidStateException", status=400)
        leader = asyncio.create_task(expect_refusal(cancel(one, update_id)))
        await wait_until(lambda: gate.entered)
        joiner = asyncio.create_task(expect_refusal(cancel(other, update_id)))
        await wait_for_join(other)
        gate.open()
        assert (await joiner).masked == (await leader).masked
        assert (await leader).metadata["eks_code"] == "InvalidStateException"
        assert len(eks.calls("CancelUpdate")) == 1


async def test_a_request_id_in_flight_with_other_parameters_is_refused(
    tmp_path: Path, eks: SimulatedEks, ledger_database: LedgerDatabase
) -> None:
    gate = Gate()
    first = {"wrap_eks": add_hooks(cancel_update=gate)}
    async with run_pair(tmp_path, eks, ledger_database, first=first) as (one, other):
        update_id = eks.rollback("prod-1", tags=PRODUCTION)
        leader = cancel(one, update_id)
        await wait_until(lambda: gate.entered)
        refusal = await expect_refusal(cancel(other, update_id, reason="another"))
        assert refusal.reason == "REQUEST_ID_REUSED"
        gate.open()
        await leader


@pytest.mark.parametrize("stays", [True, False], ids=["stays", "leaves"])
async def test_a_recorded_request_is_answered_while_another_with_its_id_is_in_progress(
    tmp_path: Path, eks: SimulatedEks, ledger_database: LedgerDatabase, *, stays: bool
) -> None:
    """The ledger has whose request_id it is: the other replica's, whose cancel is in flight, then recorded.

    The caller of the one in progress stays, or leaves while its intent is being recorded.
    """
    forward, commit = Gate(), Gate()
    first = {"wrap_eks": add_hooks(cancel_update=forward)}
    second = {"wrap_ledger": add_hooks(commit_intent=commit)}
    async with run_pair(tmp_path, eks, ledger_database, first=first, second=second) as (one, other):
        update_id = eks.rollback("prod-1", tags=PRODUCTION, cancel_delay_s=3600)
        loser = cancel(other, update_id, reason="another")
        await wait_until(lambda: commit.entered)
        assert (await expect_refusal(cancel(other, update_id))).reason == "REQUEST_ID_REUSED"
        if not stays:
            loser.cancel()
        leader = cancel(one, update_id)
        await wait_until(lambda: forward.entered)
        joiner = cancel(other, update_id)
        await wait_for_join(other)
        assert (
            await expect_refusal(cancel(other, update_id, reason="a third"))
        ).reason == "REQUEST_ID_REUSED"
        forward.open()
        assert await joiner == await leader
        assert await cancel(other, update_id) == await leader
        commit.open()
        if stays:
            assert (await expect_refusal(loser)).reason == "REQUEST_ID_REUSED"
        assert len(eks.calls("CancelUpdate")) == 1


async def test_a_cancel_that_was_not_sent_is_repeated_while_another_with_its_id_is_in_progress(
    tmp_path: Path, eks: SimulatedEks, ledger_database: LedgerDatabase
) -> None:
    commit = Gate()
    second = {"wrap_ledger": add_hooks(commit_intent=commit)}
    async with run_pair(tmp_path, eks, ledger_database, second=second) as (one, other):
        update_id = eks.rollback("prod-1", tags=PRODUCTION)
        loser = asyncio.create_task(expect_refusal(cancel(other, update_id, reason="another")))
        await wait_until(lambda: commit.entered)
        eks.fault("CancelUpdate", code="ExpiredTokenException", status=403)
        unsent = await expect_refusal(cancel(one, update_id))
        answers = await asyncio.gather(cancel(other, update_id), cancel(other, update_id))
        assert {each.cancellation_id for each in answers} == {unsent.metadata["cancellation_id"]}
        commit.open()
        assert (await loser).reason == "REQUEST_ID_REUSED"
        assert len(eks.calls("CancelUpdate")) == 2


@pytest.mark.parametrize("reason", ["bad AMI", "another"], ids=["equal", "other-parameters"])
async def test_of_two_that_decided_at_once_one_commits(
    tmp_path: Path, eks: SimulatedEks, ledger_database: LedgerDatabase, reason: str
) -> None:
    """The other one finds its intent under the lock, and joins it, also if it cannot be read at first."""
    forward, commit = Gate(), Gate()
    first = {"wrap_eks": add_hooks(cancel_update=forward)}
    second = {"wrap_ledger": add_hooks(commit_intent=commit, read=fail_times(2))}
    async with run_pair(tmp_path, eks, ledger_database, first=first, second=second) as (one, other):
        update_id = eks.rollback("prod-1", tags=PRODUCTION, cancel_delay_s=3600)
        loser = cancel(other, update_id, reason=reason)
        await wait_until(lambda: commit.entered)
        leader = cancel(one, update_id)
        await wait_until(lambda: forward.entered)
        commit.open()
        if reason != "bad AMI":
            assert (await expect_refusal(loser)).reason == "REQUEST_ID_REUSED"
        else:
            await wait_for_join(other)
        forward.open()
        answer = await leader
        if reason == "bad AMI":
            assert await loser == answer
        assert len(eks.calls("CancelUpdate")) == 1


async def test_of_two_renewals_at_once_one_is_sent(
    tmp_path: Path, eks: SimulatedEks, ledger_database: LedgerDatabase
) -> None:
    """The other one joins it. EKS gets the first token again."""
    forward, commit = Gate(), Gate()
    forward.open()
    first = {"wrap_eks": add_hooks(cancel_update=forward)}
    second = {"wrap_ledger": add_hooks(renew_intent=commit)}
    async with run_pair(tmp_path, eks, ledger_database, first=first, second=second) as (one, other):
        update_id = eks.rollback("prod-1", tags=PRODUCTION, cancel_delay_s=3600)
        eks.fault("CancelUpdate", code="ExpiredTokenException", status=403)
        await expect_refusal(cancel(one, update_id))
        loser = cancel(other, update_id)
        await wait_until(lambda: commit.entered)
        forward.close()
        leader = cancel(one, update_id)
        await wait_until(lambda: forward.entered == 2)
        commit.open()
        await wait_for_join(other)
        forward.open()
        assert await loser == await leader
        unsent, sent = eks.calls("CancelUpdate")
        assert unsent.token == sent.token


async def test_a_cancel_of_a_replica_that_hangs_is_unknown_and_never_sent(
    tmp_path: Path, eks: SimulatedEks, ledger_database: LedgerDatabase
) -> None:
    """When that replica wakes, its decision is too old. Then a repeat at another one sends."""
    gate = Gate()
    first = {"wrap_eks": add_hooks(cancel_update=gate), "eks": HASTY}
    async with run_pair(tmp_path, eks, ledger_database, first=first) as (one, other):
        update_id = eks.rollback("prod-1", tags=PRODUCTION)
        leader = asyncio.create_task(expect_refusal(cancel(one, update_id)))
        await wait_until(lambda: gate.entered)
        began = time.monotonic()
        joiner = await expect_refusal(cancel(other, update_id))
        assert 2 < time.monotonic() - began < 20
        assert joiner.status_and_reason == ("UNAVAILABLE", "OUTCOME_UNKNOWN")
        found = await get_cancellation(other, request_id="one")
        assert joiner.metadata["cancellation_id"] == found.cancellation_id
        again = await expect_refusal(cancel(other, update_id))
        assert again.masked == joiner.masked
        gate.open()
        assert (await leader).reason == "DECISION_STALE"
        assert eks.calls("CancelUpdate") == ()
        await wait_for_phase(other, cpb.CANCELLATION_PHASE_NOT_FORWARDED, request_id="one")
        await cancel(other, update_id)
        assert len(eks.calls("CancelUpdate")) == 1


async def test_a_joiner_ends_at_its_own_deadline(
    tmp_path: Path, eks: SimulatedEks, ledger_database: LedgerDatabase
) -> None:
    gate = Gate()
    first = {"wrap_eks": add_hooks(cancel_update=gate)}
    second = {"limits": {"call_timeout_s": 1}}
    async with run_pair(tmp_path, eks, ledger_database, first=first, second=second) as (one, other):
        update_id = eks.rollback("prod-1", tags=PRODUCTION)
        leader = cancel(one, update_id)
        await wait_until(lambda: gate.entered)
        refusal = await expect_refusal(cancel(other, update_id))
        assert refusal.reason == "OUTCOME_UNKNOWN"
        await wait_until(lambda: not other.gateway.cancels.in_progress)
        gate.open()
        assert (await leader).cancellation_id == refusal.metadata["cancellation_id"]


async def test_a_joiner_waits_on_while_the_ledger_cannot_be_read(
    tmp_path: Path, eks: SimulatedEks, ledger_database: LedgerDatabase
) -> None:
    """LEDGER_UNAVAILABLE would be wrong: the cancel may have been sent."""
    gate = Gate()
    first = {"wrap_eks": add_hooks(cancel_update=gate)}
    second = {"wrap_ledger": add_hooks(read=fail_times(3))}
    async with run_pair(tmp_path, eks, ledger_database, first=first, second=second) as (one, other):
        update_id = eks.rollback("prod-1", tags=PRODUCTION, cancel_delay_s=3600)
        leader = cancel(one, update_id)
        await wait_until(lambda: gate.entered)
        joiner = cancel(other, update_id)
        await wait_for_join(other)
        gate.open()
        assert await joiner == await leader


@pytest.mark.parametrize("stays", [True, False], ids=["stays", "leaves"])
async def test_a_cancel_that_lost_and_cannot_read_the_other_ends_as_unknown(
    tmp_path: Path, eks: SimulatedEks, ledger_database: LedgerDatabase, *, stays: bool
) -> None:
    """It waits as long as the other one may be in flight, whether or not its caller stays."""
    commit = Gate()
    ledger = add_hooks(commit_intent=commit, read=fail_times(1000))
    second = {"wrap_ledger": ledger, "eks": HASTY, "limits": {"call_timeout_s": 1000}}
    async with run_pair(tmp_path, eks, ledger_database, second=second) as (one, other):
        update_id = eks.rollback("prod-1", tags=PRODUCTION, cancel_delay_s=3600)
        call = cancel(other, update_id)
        loser = asyncio.create_task(expect_refusal(call))
        await wait_until(lambda: commit.entered)
        if not stays:
            call.cancel()
        leader = await cancel(one, update_id)
        commit.open()
        await wait_until(lambda: not other.gateway.cancels.in_progress)
        if stays:
            refusal = await loser
            assert refusal.status_and_reason == ("UNAVAILABLE", "OUTCOME_UNKNOWN")
            assert refusal.metadata["cancellation_id"] == leader.cancellation_id
        else:
            await asyncio.wait({loser})
