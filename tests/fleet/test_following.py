"""Every replica follows every pending cancellation, whichever replica recorded it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from eksgateway.clock import SystemClock
from eksgateway.errors import LedgerUnavailable
from eksgateway.ledger.cancellation_notices import CancellationNotices
from eksgateway.ledger.sql_ledger import SqlLedger, open_ledger
from eksgateway.model import OutcomeKind
from eksgateway.settings import LedgerSettings, WatchSettings
from eksgateway.v1 import cancellation_pb2 as cpb
from eksgateway.v1 import update_service_pb2 as pb
from eksgateway.watch.following import Following
from eksgateway.watch.watches import Watches
from support.gateway import RunningGateway
from support.ledger import list_events
from support.pairs import HASTY, run_pair
from support.postgres import LedgerDatabase
from support.records import intent, observation, outcome, ref, update
from support.simulator import SimulatedEks
from support.waiting import wait_until
from support.watching import FakeReads
from support.wire import PRODUCTION, Gate, HookedPart, add_hooks, expect_refusal, wait_for_phase


@pytest.fixture
async def eks() -> AsyncIterator[SimulatedEks]:
    async with SimulatedEks() as simulated:
        yield simulated


async def read_phases(here: RunningGateway, update_id: str) -> list[tuple[str, str]]:
    """Status and phase of each message of a new watch, without heartbeats, until FINAL."""
    seen: list[tuple[str, str]] = []
    async for message in here.watch("prod-1", update_id):
        if message.kind != pb.WATCH_KIND_HEARTBEAT:
            phase = cpb.CancellationPhase.Name(message.phase).removeprefix("CANCELLATION_PHASE_")
            seen.append((message.update.status, phase))
        if message.kind == pb.WATCH_KIND_FINAL:
            break
    return list(dict.fromkeys(seen))


async def test_a_watcher_sees_the_phases_of_a_cancel_at_another_replica(
    tmp_path: Path, eks: SimulatedEks, ledger_database: LedgerDatabase
) -> None:
    """Then no replica polls the update any more, and each change is in the ledger once."""
    async with run_pair(tmp_path, eks, ledger_database) as (one, other):
        update_id = eks.rollback("prod-1", tags=PRODUCTION, cancel_delay_s=0.5, node_replacing_s=1)
        watcher = asyncio.create_task(read_phases(other, update_id))
        await wait_until(lambda: other.gateway.watches.watchers == 1)
        await wait_until(lambda: len(eks.calls("DescribeUpdate")) >= 2)
        told = await one.cancel("prod-1", update_id)
        seen = await watcher
        assert seen[0] == ("InProgress", "UNSPECIFIED")
        assert [phase for _, phase in seen[1:]] == ["REQUESTED", "CANCELLING", "CANCELLED"]
        for here in (one, other):
            found = await wait_for_phase(
                here, cpb.CANCELLATION_PHASE_CANCELLED, cancellation_id=told.cancellation_id
            )
            assert found.phase_reason == "EKS says that the update is Cancelled."
            await wait_until(lambda here=here: here.gateway.watches.pollers == 0)  # type: ignore[misc]
    kinds = [event.kind for event in list_events(LedgerSettings(url=ledger_database.url).location)]
    assert kinds == ["intent", "outcome", "observation", "observation"]


async def test_a_replica_follows_the_cancel_of_one_that_is_gone(
    tmp_path: Path, eks: SimulatedEks, ledger_database: LedgerDatabase
) -> None:
    """Without a watcher. It settles, and the poller ends."""
    seldom = {"poll_s": 600, "poll_min_s": 600, "poll_max_s": 600, "follow_s": 600}
    async with run_pair(tmp_path, eks, ledger_database, first={"watch": seldom}) as (one, other):
        update_id = eks.rollback("prod-1", tags=PRODUCTION, cancel_delay_s=3600)
        told = await one.cancel("prod-1", update_id)
        await wait_until(lambda: other.gateway.watches.pollers == 1)
        await one.gateway.watches.close()
        eks.set_update("prod-1", update_id, status="Cancelled")
        await wait_for_phase(other, cpb.CANCELLATION_PHASE_CANCELLED, cancellation_id=told.cancellation_id)
        await wait_until(lambda: other.gateway.watches.pollers == 0)


async def test_a_refused_cancel_is_not_polled_elsewhere(
    tmp_path: Path, eks: SimulatedEks, ledger_database: LedgerDatabase
) -> None:
    async with run_pair(tmp_path, eks, ledger_database) as (one, other):
        update_id = eks.rollback("prod-1", tags=PRODUCTION)
        eks.fault("CancelUpdate", code="InvalidStateException", status=400)
        await expect_refusal(one.cancel("prod-1", update_id, request_id="one"))
        later = await one.cancel("prod-2", eks.rollback("prod-2", tags=PRODUCTION, node_replacing_s=0.2))
        await wait_for_phase(other, cpb.CANCELLATION_PHASE_CANCELLED, cancellation_id=later.cancellation_id)
        calls = eks.calls("DescribeUpdate")
        assert len([call for call in calls if call.cluster == "prod-1"]) <= 3


async def test_an_intent_of_a_replica_that_hangs_is_followed_after_its_time(
    tmp_path: Path, eks: SimulatedEks, ledger_database: LedgerDatabase
) -> None:
    """Its outcome is unknown to watchers elsewhere from the intent on, as to GetCancellation."""
    gate = Gate()
    first = {"wrap_eks": add_hooks(cancel_update=gate), "eks": HASTY}
    async with run_pair(tmp_path, eks, ledger_database, first=first) as (one, other):
        update_id = eks.rollback("prod-1", tags=PRODUCTION)
        call = asyncio.create_task(expect_refusal(one.cancel("prod-1", update_id, request_id="one")))
        await wait_until(lambda: gate.entered)
        watcher = asyncio.create_task(read_phases(other, update_id))
        await wait_until(lambda: other.gateway.watches.watchers == 1)
        assert other.gateway.watches.pollers == 1
        await wait_for_phase(other, cpb.CANCELLATION_PHASE_OUTCOME_UNKNOWN, request_id="one")
        await wait_until(lambda: other.gateway.following.cancellation_ids)
        eks.set_update("prod-1", update_id, status="Cancelled")  # by another cancel
        await wait_for_phase(other, cpb.CANCELLATION_PHASE_CANCELLED, request_id="one")
        assert await watcher == [("InProgress", "OUTCOME_UNKNOWN"), ("Cancelled", "CANCELLED")]
        gate.open()
        await call


# -- Without notices ------------------------------------------------------------------------------


class Follower:
    """The following of one replica, over a real ledger and scripted reads of EKS."""

    def __init__(self, ledger: Any, compare_s: float) -> None:
        clock = SystemClock()
        self.reads = FakeReads(clock)
        self.reads.answer = update()
        settings = WatchSettings(poll_s=0.1, poll_min_s=0.1, follow_s=0.1)
        self.watches = Watches(self.reads, ledger.record_observation, clock, settings, Random(1))
        self.notices = CancellationNotices()
        self.following = Following(ledger, self.watches, self.notices, clock, compare_s)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Follower]:
        await self.following.start(replicas=True)
        try:
            yield self
        finally:
            await self.following.close()
            await self.watches.close()


@pytest.fixture
async def ledgers(ledger_database: LedgerDatabase) -> AsyncIterator[tuple[SqlLedger, SqlLedger]]:
    """Those of two replicas."""
    settings = LedgerSettings(url=ledger_database.url, commit_timeout_s=10)
    one, other = [await open_ledger(settings, SystemClock()) for _ in range(2)]
    yield one, other
    await one.close()
    await other.close()


async def record_cancel(ledger: SqlLedger, name: str = "1") -> None:
    await ledger.commit_intent(intent(name), 60)
    await ledger.record_outcome(f"cancellation-{name}", outcome(update=update("Cancelling")))


async def test_pending_cancellations_are_compared_at_intervals(
    ledgers: tuple[SqlLedger, SqlLedger],
) -> None:
    """Those of another replica are found, and their end."""
    one, other = ledgers
    async with Follower(other, compare_s=0.1).running() as follower:
        await record_cancel(one)
        await wait_until(lambda: follower.watches.pollers == 1)
        follower.reads.answer = update("Cancelled")
        await wait_until(lambda: follower.watches.pollers == 0)
        found = await one.get("cancellation-1")
        assert found is not None
        assert found.settled


async def test_missed_notices_are_caught_up(ledgers: tuple[SqlLedger, SqlLedger]) -> None:
    one, other = ledgers
    async with Follower(other, compare_s=600).running() as follower:
        await record_cancel(one)
        follower.notices.catch_up()
        await wait_until(lambda: follower.watches.pollers == 1)


async def test_a_notice_reads_its_cancellation_alone(ledgers: tuple[SqlLedger, SqlLedger]) -> None:
    one, other = ledgers
    async with Follower(other, compare_s=600).running() as follower:
        await record_cancel(one)
        await record_cancel(one, "2")
        follower.notices.hear("cancellation-unknown")
        follower.notices.hear("cancellation-2")
        await wait_until(lambda: follower.following.cancellation_ids == ("cancellation-2",))


async def test_following_goes_on_after_the_ledger_was_away(ledgers: tuple[SqlLedger, SqlLedger]) -> None:
    """What was missed is compared."""
    one, other = ledgers
    tries = 0

    async def fail(*_: Any) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise LedgerUnavailable

    async with Follower(HookedPart(other, read=fail), compare_s=600).running() as follower:
        await record_cancel(one)
        follower.notices.hear("cancellation-1")
        await wait_until(lambda: follower.watches.pollers == 1)
        assert tries == 2


async def test_a_cancellation_in_flight_elsewhere_is_not_taken_up(
    ledgers: tuple[SqlLedger, SqlLedger],
) -> None:
    """Also at a start. It is once its time is over."""
    one, other = ledgers
    await one.commit_intent(intent(), 1.5)
    await one.commit_intent(intent("2"), -1)
    async with Follower(other, compare_s=0.2).running() as follower:
        assert follower.following.cancellation_ids == ("cancellation-2",)
        await wait_until(lambda: len(follower.following.cancellation_ids) == 2)


async def test_an_observation_by_another_replica_requests_no_poll(
    ledgers: tuple[SqlLedger, SqlLedger],
) -> None:
    """Its state is published at once, and its end ends the poller without another read."""
    one, other = ledgers
    follower = Follower(other, compare_s=600)
    async with follower.running():
        await one.commit_intent(intent(), 60)
        await one.record_outcome("cancellation-1", outcome(OutcomeKind.UNKNOWN))
        follower.reads.open.clear()
        follower.notices.hear("cancellation-1")
        await wait_until(lambda: follower.reads.calls)
        await one.record_observation(ref(), observation(update("Cancelled")))
        follower.notices.hear("cancellation-1")
        await wait_until(lambda: not follower.following.cancellation_ids)
        assert len(follower.reads.calls) == 1
        follower.reads.open.set()
        await wait_until(lambda: follower.watches.pollers == 0)
        assert len(follower.reads.calls) == 1
