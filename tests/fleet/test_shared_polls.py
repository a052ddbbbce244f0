"""Watches on several replicas over a real PostgreSQL: one of them polls, and all hear of a change."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise

import pytest

from eksgateway.errors import EksNotFound
from eksgateway.model import UpdateRef
from eksgateway.settings import WatchSettings
from eksgateway.watch.resume import ResumePosition
from support.fleet_reads import CountingEks, ReadingReplica, run_replicas
from support.postgres import LedgerDatabase
from support.waiting import wait_until
from support.watching import CLUSTER, REF, Stream, a_cancellation

FAST = WatchSettings(poll_s=0.4, poll_min_s=0.2, follow_s=0.4)
SLOW = WatchSettings(poll_s=300, poll_min_s=300, poll_max_s=300, follow_s=300)


@pytest.fixture
def eks() -> CountingEks:
    return CountingEks()


@asynccontextmanager
async def watching(
    replica: ReadingReplica, ref: UpdateRef = REF, position: ResumePosition | None = None
) -> AsyncIterator[Stream]:
    """A watcher that has its first state."""
    stream = Stream()
    with replica.watches.subscribe(ref, position) as slot:
        task = asyncio.create_task(stream.read(slot, 60, position))
        try:
            await wait_until(lambda: stream.events or stream.ended)
            yield stream
        finally:
            task.cancel()
            await asyncio.wait((task,))


@asynccontextmanager
async def one_that_polls(
    database: LedgerDatabase, eks: CountingEks
) -> AsyncIterator[tuple[ReadingReplica, ReadingReplica]]:
    """The second replica polls every five minutes."""
    async with (
        run_replicas(database.url, eks, count=1, settings=FAST) as (fast,),
        run_replicas(database.url, eks, count=1, settings=SLOW) as (slow,),
    ):
        yield fast, slow


async def test_change_reaches_the_watchers_of_every_replica(
    ledger_database: LedgerDatabase, eks: CountingEks
) -> None:
    """At once, without a call of theirs."""
    async with (
        one_that_polls(ledger_database, eks) as (fast, slow),
        watching(fast),
        watching(slow) as stream,
    ):
        eks.statuses[str(REF)] = "Cancelling"
        await wait_until(lambda: stream.statuses == ["InProgress", "Cancelling"])
        eks.statuses[str(REF)] = "Cancelled"
        await wait_until(lambda: stream.ended)
        assert stream.statuses == ["InProgress", "Cancelling", "Cancelled"]
        assert slow.counts.looks["taken"] == 0


async def test_refusal_and_recovery_reach_every_replica(
    ledger_database: LedgerDatabase, eks: CountingEks
) -> None:
    async with one_that_polls(ledger_database, eks) as (fast, slow), watching(fast), watching(slow) as stream:
        eks.error = EksNotFound()
        calls = len(eks.calls)
        await wait_until(lambda: len(eks.calls) > calls + 1)
        eks.error = None
        eks.statuses[str(REF)] = "Cancelling"
        await wait_until(lambda: stream.statuses == ["InProgress", "Cancelling"])


async def test_change_is_known_after_notices_were_missed(
    ledger_database: LedgerDatabase, eks: CountingEks
) -> None:
    async with one_that_polls(ledger_database, eks) as (fast, slow), watching(slow) as stream:
        await slow.notices.close()
        eks.statuses[str(REF)] = "Cancelling"
        async with watching(fast) as other:
            await wait_until(lambda: "Cancelling" in other.statuses)
        assert stream.statuses == ["InProgress"]
        slow.looks.catch_up()
        await wait_until(lambda: stream.statuses == ["InProgress", "Cancelling"])


async def test_replicas_poll_as_often_as_one(ledger_database: LedgerDatabase, eks: CountingEks) -> None:
    refs = [UpdateRef(CLUSTER, f"update-{n}") for n in range(20)]
    settings = WatchSettings(poll_s=1)
    async with (
        run_replicas(ledger_database.url, eks, settings=settings) as replicas,
        AsyncExitStack() as stack,
    ):
        for ref in refs:
            for each in replicas:
                stack.enter_context(each.watches.subscribe(ref))
        await wait_until(lambda: len(eks.calls) >= 100)
        assert eks.most_at_once == 1
        gaps = [after - before for ref in refs for before, after in pairwise(eks.times(ref))]
        early = [gap for gap in gaps if gap < 0.8]
        assert len(early) <= len(gaps) / 20


async def test_another_replica_polls_on_when_one_is_gone(
    ledger_database: LedgerDatabase, eks: CountingEks
) -> None:
    async with (
        run_replicas(ledger_database.url, eks, count=2, settings=FAST) as replicas,
        watching(replicas[0]),
        watching(replicas[1]),
    ):
        await wait_until(lambda: len(eks.calls) > 5)
        staying, polling = sorted(replicas, key=lambda each: each.counts.looks["taken"])
        taken = staying.counts.looks["taken"]
        await polling.watches.close()
        gone = time.monotonic()
        await wait_until(lambda: staying.counts.looks["taken"] > taken + 1)
        assert time.monotonic() - gone < 3


async def test_replica_that_read_a_change_records_it(
    ledger_database: LedgerDatabase, eks: CountingEks
) -> None:
    """The other one publishes it, and leaves its ledger alone until its next poll."""
    async with one_that_polls(ledger_database, eks) as (fast, slow), watching(fast), watching(slow) as stream:
        asked = slow.record.attempts
        eks.statuses[str(REF)] = "Cancelling"
        await wait_until(lambda: stream.statuses == ["InProgress", "Cancelling"])
        await wait_until(lambda: "Cancelling" in fast.record.statuses)
        assert slow.record.attempts == asked


async def test_final_state_that_another_replica_read_ends_the_following(
    ledger_database: LedgerDatabase, eks: CountingEks
) -> None:
    async with run_replicas(ledger_database.url, eks, settings=FAST) as replicas:
        for each in replicas:
            each.record.held.append(a_cancellation())
            each.watches.follow(a_cancellation())
        await wait_until(lambda: len(eks.calls) >= 3)
        eks.statuses[str(REF)] = "Cancelled"
        await wait_until(lambda: not any(each.watches.pollers for each in replicas))
        assert [each.record.held[0].settled for each in replicas] == [True] * 3


async def test_watcher_that_resumes_elsewhere_gets_nothing_older_than_its_own(
    ledger_database: LedgerDatabase, eks: CountingEks
) -> None:
    """The other replica has an older look, and makes a new one."""
    settings = WatchSettings(poll_s=60, poll_min_s=0.2)
    position = ResumePosition(7, b"of another state")
    async with (
        run_replicas(ledger_database.url, eks, count=2, settings=settings) as (first, second),
        watching(second),
    ):
        eks.statuses[str(REF)] = "Cancelling"
        async with watching(second, position=position) as stream:
            assert stream.statuses == ["Cancelling"]
        eks.statuses[str(REF)] = "Cancelled"
        async with watching(first, position=position) as stream:
            assert stream.statuses == ["Cancelled"]


async def test_polls_keep_their_interval_while_the_database_is_away(
    ledger_database: LedgerDatabase, eks: CountingEks
) -> None:
    async with run_replicas(ledger_database.url, eks, settings=FAST) as replicas, AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(watching(each)) for each in replicas]
        ledger_database.refuse_connections()
        eks.calls.clear()
        await wait_until(lambda: len(eks.calls) >= 15)
        took = eks.calls[14][1] - eks.calls[0][1]
        assert took > 3 * FAST.poll_s * 0.9
        eks.statuses[str(REF)] = "Cancelled"
        await wait_until(lambda: all(each.statuses[-1] == "Cancelled" for each in streams))
