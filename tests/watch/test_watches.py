"""Subscribing: shared pollers, first states, and how watches end."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from random import Random

import pytest

from eksgateway.errors import Draining, Internal
from eksgateway.model import Phase, UpdateRef
from eksgateway.watch.slot import WatchState
from eksgateway.watch.watches import Watches
from support.logs import capture_logs
from support.watching import CLUSTER, REF, Stage, a_cancellation, an_update


async def test_watchers_of_an_update_share_one_poller(stage: Stage) -> None:
    """One read per interval, and every watcher gets every change."""
    async with AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(stage.watching()) for _ in range(200)]
        assert (stage.watches.pollers, stage.watches.watchers) == (1, 200)
        assert len(stage.reads.calls) == 1
        await stage.clock.advance(50)
        assert 10 <= len(stage.reads.calls) <= 12
        stage.reads.answer = an_update("Cancelled")
        await stage.clock.advance(6)
        assert all(stream.statuses == ["InProgress", "Cancelled"] for stream in streams)
        assert all(stream.ended for stream in streams)
        assert stage.watches.pollers == 0


async def test_each_update_has_its_own_poller(stage: Stage) -> None:
    other = UpdateRef(CLUSTER, "update-2")
    with stage.watches.subscribe(REF), stage.watches.subscribe(other):
        assert stage.watches.pollers == 2


async def test_two_thousand_watchers_leave_no_poller_task_or_timer(stage: Stage) -> None:
    """One after the other, or together."""
    for _ in range(1000):
        with stage.watches.subscribe(REF) as watcher:
            assert await watcher.next(1) is not None
    async with AsyncExitStack() as stack:
        for number in range(1000):
            ref = UpdateRef(CLUSTER, f"update-{number}")
            stack.enter_context(stage.watches.subscribe(ref))
        await stage.clock.advance(7)
        assert (stage.watches.pollers, stage.watches.watchers) == (1000, 1000)
    await stage.clock.advance()
    assert (stage.watches.pollers, stage.watches.watchers, stage.clock.sleepers) == (0, 0, 0)
    assert [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("poll ")] == []


async def test_watcher_that_leaves_at_once_costs_no_read(stage: Stage) -> None:
    with stage.watches.subscribe(REF):
        pass
    await stage.clock.advance()
    assert stage.watches.pollers == 0
    assert stage.reads.calls == []


async def test_poller_ends_with_its_last_watcher(stage: Stage) -> None:
    async with stage.watching():
        async with stage.watching():
            pass
        await stage.clock.advance(6)
        assert len(stage.reads.calls) == 2
    await stage.clock.advance(60)
    assert len(stage.reads.calls) == 2


async def test_watcher_that_joins_as_the_last_one_leaves_keeps_the_poller(stage: Stage) -> None:
    async with AsyncExitStack() as first:
        await first.enter_async_context(stage.watching())
        async with AsyncExitStack() as second:
            watcher = second.enter_context(stage.watches.subscribe(REF))
            await first.aclose()
            assert await watcher.next(1) is not None
            await stage.clock.advance(6)
            assert len(stage.reads.calls) == 2


async def test_joining_within_the_interval_costs_no_read(stage: Stage) -> None:
    async with stage.watching():
        await stage.clock.advance(4)
        async with stage.watching() as late:
            assert late.statuses == ["InProgress"]
            assert len(stage.reads.calls) == 1


async def test_only_the_first_poll_may_use_a_shared_read(stage: Stage) -> None:
    async with stage.watching():
        await stage.clock.advance(12)
    assert stage.reads.max_ages == [stage.settings.poll_s, 0, 0]


async def test_watcher_of_a_followed_update_gets_a_new_read(stage: Stage) -> None:
    await stage.commit(a_cancellation(update=an_update("Cancelling", "InProgress")))
    stage.reads.answer = an_update("Reticulating", "InProgress")
    await stage.clock.advance(20)
    async with stage.watching() as late:
        assert late.statuses == ["Reticulating"]
        assert stage.reads.calls[-1] == stage.clock.monotonic()


async def test_record_in_the_ledger_is_no_first_state(stage: Stage) -> None:
    """A watcher that comes right after a start waits for EKS."""
    stage.reads.open.clear()
    await stage.commit(a_cancellation(update=an_update("Cancelling", "InProgress")))
    async with stage.watching() as stream:
        assert stream.events == []
        stage.reads.answer = an_update("Cancelled", "Successful")
        stage.reads.open.set()  # the read under way began before, yet is young enough
        await stage.clock.advance()
        assert stream.statuses[0] != "Cancelled"
        await stage.clock.advance(6)
        assert stream.statuses[-1] == "Cancelled"


async def test_stalled_watcher_delays_no_other(stage: Stage) -> None:
    """It gets the latest state when it reads again."""
    async with stage.watching() as quick:
        stalled = stage.watches.subscribe(REF)
        for number in range(20):
            stage.reads.answer = an_update(f"Step{number}")
            await stage.clock.advance(6)
        assert quick.statuses == ["InProgress", *(f"Step{number}" for number in range(20))]
        state = await stalled.next(0)
        assert state is not None
        assert state.update.status == "Step19"
        assert await stalled.next(0) is None
        assert stalled.last_seen is not None


async def test_drain_ends_watches_and_keeps_following(stage: Stage) -> None:
    """Watchers get their latest state, then Draining; new ones are refused."""
    await stage.commit(a_cancellation(update=an_update("Cancelling", "InProgress")))
    stage.reads.answer = an_update("Cancelling", "InProgress")
    async with stage.watching() as waiting:
        behind = stage.watches.subscribe(REF)
        stage.watches.drain()
        await stage.clock.advance()
        assert isinstance(waiting.error, Draining)
        assert isinstance(await behind.next(0), WatchState)
        with pytest.raises(Draining):
            await behind.next(0)
        with pytest.raises(Draining):
            stage.watches.subscribe(REF)
    assert stage.watches.pollers == 1
    stage.reads.answer = an_update("Cancelled", "Successful")
    await stage.clock.advance(34)
    assert stage.record.statuses[-1] == "Cancelled"
    assert stage.watches.pollers == 0


async def test_drain_ends_a_watch_without_a_state(stage: Stage) -> None:
    stage.reads.open.clear()
    async with stage.watching() as stream:
        stage.watches.drain()
        await stage.clock.advance()
        assert isinstance(stream.error, Draining)


async def test_close_stops_every_poller(stage: Stage) -> None:
    """Later cancellations are not followed."""
    await stage.commit(a_cancellation())
    stage.reads.open.clear()
    other = UpdateRef(CLUSTER, "update-2")
    with stage.watches.subscribe(REF), stage.watches.subscribe(other) as watcher:
        await stage.clock.advance(40)
        await stage.watches.close()
        assert stage.watches.pollers == 0
        with pytest.raises(Draining):
            await watcher.next(1)
    stage.watches.follow(a_cancellation(number=2))
    assert stage.watches.pollers == 0


async def test_close_removes_a_poller_that_has_not_run(stage: Stage) -> None:
    stage.watches.follow(a_cancellation())
    await stage.watches.close()
    assert stage.watches.pollers == 0


async def test_bug_in_a_read_ends_watches_with_internal(stage: Stage) -> None:
    """Without its details."""
    stage.reads.answer = ZeroDivisionError("secret")
    async with stage.watching() as stream:
        assert isinstance(stream.error, Internal)
        assert "secret" not in stream.error.message + stream.error.detail


class BrokenRandom(Random):
    """Raises while ``broken``: a bug in the poller itself."""

    broken = True

    def uniform(self, a: float, b: float) -> float:
        if self.broken:
            raise ZeroDivisionError("secret")
        return super().uniform(a, b)


@pytest.fixture
def failing(stage: Stage) -> BrokenRandom:
    random = BrokenRandom(1)
    stage.watches = Watches(stage.reads, stage.record, stage.clock, stage.settings, random)
    return random


async def test_bug_in_a_poller_ends_its_watches_but_not_the_following(
    stage: Stage, failing: BrokenRandom
) -> None:
    """The poller is restarted at intervals until the cancellation is settled."""
    stage.record.held.append(a_cancellation(update=an_update("Cancelling", "InProgress")))
    stage.watches.follow(stage.record.held[0])
    with capture_logs() as logs:
        async with stage.watching() as stream:
            assert isinstance(stream.error, Internal)
            assert "secret" not in stream.error.message + stream.error.detail
        await stage.clock.advance(100)
    assert stage.watches.pollers == 1
    assert len(stage.reads.calls) == 4
    assert [each["event"] for each in logs] == ["watch.poller_failed"] * 4
    failing.broken = False
    stage.reads.answer = an_update("Cancelled", "Successful")
    await stage.clock.advance(31)
    assert stage.record.held[0].settled
    assert stage.watches.pollers == 0


async def test_bug_in_a_poller_without_pending_cancellation_ends_it(
    stage: Stage, failing: BrokenRandom
) -> None:
    """A watcher that comes again gets a new poller."""
    async with stage.watching() as stream:
        assert isinstance(stream.error, Internal)
        assert stage.watches.pollers == 0
    failing.broken = False
    async with stage.watching() as stream:
        assert stream.statuses == ["InProgress"]


async def test_wall_clock_that_is_set_changes_no_order(stage: Stage) -> None:
    async with stage.watching() as stream:
        stage.clock.jump(-86_400)
        for status in ("Cancelling", "Cancelled"):
            stage.reads.answer = an_update(status)
            await stage.clock.advance(6)
        assert stream.statuses == ["InProgress", "Cancelling", "Cancelled"]
        assert stream.events[-1].phase is Phase.CANCELLED
