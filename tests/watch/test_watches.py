"""Subscribing: who shares a poller, what the first state is, and how watching ends."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from random import Random

import pytest

from eksgateway.errors import Draining, Internal
from eksgateway.model import Phase, UpdateRef
from eksgateway.watch.state import WatchState
from eksgateway.watch.watches import Watches
from support.logs import capture_logs
from support.watching import CLUSTER, REF, Stage, a_cancellation, an_update


async def test_two_hundred_watchers_one_poller(stage: Stage) -> None:
    """However many watch, EKS is read once an interval, and everybody sees every change."""
    async with AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(stage.watching()) for _ in range(200)]
        assert (stage.watches.pollers, stage.watches.watchers) == (1, 200)
        assert len(stage.reads.calls) == 1
        await stage.clock.advance(50)
        assert 10 <= len(stage.reads.calls) <= 12
        stage.reads.says = an_update("Cancelled")
        await stage.clock.advance(6)
        assert all(stream.statuses == ["InProgress", "Cancelled"] for stream in streams)
        assert all(stream.ended for stream in streams)
        assert stage.watches.pollers == 0


async def test_updates_are_polled_apart(stage: Stage) -> None:
    """Watchers of different updates share nothing."""
    other = UpdateRef(CLUSTER, "update-2")
    with stage.watches.subscribe(REF), stage.watches.subscribe(other):
        assert stage.watches.pollers == 2


async def test_nothing_is_left(stage: Stage) -> None:
    """Two thousand who come and go, one after the other or together, leave nothing behind."""
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


async def test_leaving_before_the_first_look(stage: Stage) -> None:
    """Somebody who is gone at once costs EKS nothing."""
    with stage.watches.subscribe(REF):
        pass
    await stage.clock.advance()
    assert stage.watches.pollers == 0
    assert stage.reads.calls == []


async def test_the_last_to_leave_ends_the_poller(stage: Stage) -> None:
    """A poller goes on while one watches, and ends with the last."""
    async with stage.watching():
        async with stage.watching():
            pass
        await stage.clock.advance(6)
        assert len(stage.reads.calls) == 2
    await stage.clock.advance(60)
    assert len(stage.reads.calls) == 2


async def test_joining_while_the_last_leaves(stage: Stage) -> None:
    """A watcher who comes in the moment the last one leaves keeps the poller."""
    async with AsyncExitStack() as first:
        await first.enter_async_context(stage.watching())
        async with AsyncExitStack() as second:
            watcher = second.enter_context(stage.watches.subscribe(REF))
            await first.aclose()
            assert await watcher.next(1) is not None
            await stage.clock.advance(6)
            assert len(stage.reads.calls) == 2


async def test_a_shared_state_is_given_at_once_while_it_is_young(stage: Stage) -> None:
    """Joining within the interval costs no read."""
    async with stage.watching():
        await stage.clock.advance(4)
        async with stage.watching() as late:
            assert late.statuses == ["InProgress"]
            assert len(stage.reads.calls) == 1


async def test_only_the_first_look_may_be_shared(stage: Stage) -> None:
    """It takes what another call has just read; every later one asks EKS itself."""
    async with stage.watching():
        await stage.clock.advance(12)
    assert stage.reads.max_ages == [stage.settings.poll_s, 0, 0]


async def test_an_old_state_is_read_again_first(stage: Stage) -> None:
    """Who joins a poller that only follows gets a state read after that, and soon."""
    await stage.cancelled(a_cancellation(update=an_update("Cancelling", "InProgress")))
    stage.reads.says = an_update("Reticulating", "InProgress")
    await stage.clock.advance(20)
    async with stage.watching() as late:
        assert late.statuses == ["Reticulating"]
        assert stage.reads.calls[-1] == stage.clock.monotonic()


async def test_a_record_is_not_a_first_state(stage: Stage) -> None:
    """Who subscribes right after a start waits for EKS, not for what the ledger last knew."""
    stage.reads.open.clear()
    await stage.cancelled(a_cancellation(update=an_update("Cancelling", "InProgress")))
    async with stage.watching() as stream:
        assert stream.events == []
        stage.reads.says = an_update("Cancelled", "Successful")
        stage.reads.open.set()  # the read under way began before, yet is young enough
        await stage.clock.advance()
        assert stream.statuses[0] != "Cancelled"
        await stage.clock.advance(6)
        assert stream.statuses[-1] == "Cancelled"


async def test_a_stalled_watcher_delays_nobody(stage: Stage) -> None:
    """Who does not read is passed by, and finds the latest state when he reads again."""
    async with stage.watching() as quick:
        stalled = stage.watches.subscribe(REF)
        for number in range(20):
            stage.reads.says = an_update(f"Step{number}")
            await stage.clock.advance(6)
        assert quick.statuses == ["InProgress", *(f"Step{number}" for number in range(20))]
        state = await stalled.next(0)
        assert state is not None
        assert state.update.status == "Step19"
        assert await stalled.next(0) is None
        assert stalled.last_seen is not None


async def test_draining(stage: Stage) -> None:
    """Watchers get their latest state, then Draining; nobody new is let in; following goes on."""
    await stage.cancelled(a_cancellation(update=an_update("Cancelling", "InProgress")))
    stage.reads.says = an_update("Cancelling", "InProgress")
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
    stage.reads.says = an_update("Cancelled", "Successful")
    await stage.clock.advance(34)
    assert stage.record.statuses[-1] == "Cancelled"
    assert stage.watches.pollers == 0


async def test_draining_before_the_first_state(stage: Stage) -> None:
    """Who has got nothing yet is sent away as well."""
    stage.reads.open.clear()
    async with stage.watching() as stream:
        stage.watches.drain()
        await stage.clock.advance()
        assert isinstance(stream.error, Draining)


async def test_closing(stage: Stage) -> None:
    """Closing stops every poller, in whatever it is, and follows nothing any more."""
    await stage.cancelled(a_cancellation())
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


async def test_closing_before_the_first_step(stage: Stage) -> None:
    """A poller whose task has not run yet is gone as well."""
    stage.watches.follow(a_cancellation())
    await stage.watches.close()
    assert stage.watches.pollers == 0


async def test_a_bug_in_reading_leaves_nobody_waiting(stage: Stage) -> None:
    """An exception that nobody foresaw reaches the watchers as Internal."""
    stage.reads.says = ZeroDivisionError("secret")
    async with stage.watching() as stream:
        assert isinstance(stream.error, Internal)
        assert "secret" not in stream.error.message + stream.error.detail


class Failing(Random):
    """Chance that fails until it is mended: a bug of a poller's own."""

    broken = True

    def uniform(self, a: float, b: float) -> float:
        if self.broken:
            raise ZeroDivisionError("secret")
        return super().uniform(a, b)


@pytest.fixture
def failing(stage: Stage) -> Failing:
    random = Failing(1)
    stage.watches = Watches(stage.reads, stage.record, stage.clock, stage.settings, random)
    return random


async def test_a_bug_in_a_poller_ends_no_following(stage: Stage, failing: Failing) -> None:
    """Who watches is told; what is pending is taken up again until it is settled, without haste."""
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
    stage.reads.says = an_update("Cancelled", "Successful")
    await stage.clock.advance(31)
    assert stage.record.held[0].settled
    assert stage.watches.pollers == 0


async def test_a_bug_in_a_poller_that_nobody_needs_ends_it(stage: Stage, failing: Failing) -> None:
    """Who watches is told, and may come back to another one."""
    async with stage.watching() as stream:
        assert isinstance(stream.error, Internal)
        assert stage.watches.pollers == 0
    failing.broken = False
    async with stage.watching() as stream:
        assert stream.statuses == ["InProgress"]


async def test_a_wall_clock_that_jumps_changes_no_order(stage: Stage) -> None:
    """States are ordered and timers run by the monotonic clock."""
    async with stage.watching() as stream:
        stage.clock.jump(-86_400)
        for status in ("Cancelling", "Cancelled"):
            stage.reads.says = an_update(status)
            await stage.clock.advance(6)
        assert stream.statuses == ["InProgress", "Cancelling", "Cancelled"]
        assert stream.events[-1].phase is Phase.CANCELLED
