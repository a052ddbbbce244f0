"""Polls that use the reads of other replicas."""

from __future__ import annotations

import pytest

from eksgateway.errors import LedgerUnavailable
from eksgateway.watch.resume import ResumePosition
from support.watching import Stage, a_cancellation, an_update


@pytest.fixture
def shared(stage: Stage) -> Stage:
    stage.reads.shared = True
    return stage


async def test_rest_begins_with_the_read_of_the_other_replica(shared: Stage) -> None:
    """The next poll may use a read of its second half."""
    shared.reads.age = 3
    async with shared.watching():
        await shared.clock.advance(6)
        first, second = shared.reads.calls[:2]
        assert 5 * 0.9 + 0.2 - 3 <= second - first <= 5 * 1.1 + 0.5 - 3
        assert 2.3 < shared.reads.max_ages[1] < 3.1


async def test_watcher_that_resumes_needs_a_read_that_began_after_it_came(shared: Stage) -> None:
    async with shared.watching():
        await shared.clock.advance(4)
        async with shared.watching(ResumePosition(7, b"of another state")) as stream:
            assert shared.reads.max_ages[-1] == 0
            await shared.clock.advance(2)
            assert stream.statuses == ["InProgress"]


async def test_final_state_that_cannot_be_recorded_is_tried_again_at_intervals(shared: Stage) -> None:
    shared.reads.answer = an_update("Cancelled")
    shared.record.fails = LedgerUnavailable()
    await shared.commit(a_cancellation())
    await shared.clock.advance(300)
    assert 8 <= shared.record.attempts <= 12
    shared.record.fails = None
    await shared.clock.advance(34)
    assert shared.watches.pollers == 0
