"""The events of one stream."""

from __future__ import annotations

from datetime import timedelta

import pytest

from eksgateway.errors import EksNotFound
from eksgateway.watch.events import WatchKind
from support.watching import START, Stage, an_update


async def test_a_whole_watch(stage: Stage) -> None:
    """SNAPSHOT, a CHANGE per change, FINAL, then the end; the sequence rises by one each."""
    async with stage.watching() as stream:
        for status in ("Reticulating", "Cancelling", "Cancelled"):
            stage.reads.says = an_update(status)
            await stage.clock.advance(6)
        assert stream.told == [
            ("SNAPSHOT", "InProgress", None, 1),
            ("CHANGE", "Reticulating", None, 2),
            ("CHANGE", "Cancelling", "CANCELLING", 3),
            ("FINAL", "Cancelled", "CANCELLED", 4),
        ]
        assert stream.ended
        assert stream.error is None


@pytest.mark.parametrize("status", ["Cancelled", "Successful", "Failed"])
async def test_an_update_that_has_ended(stage: Stage, status: str) -> None:
    """It gives SNAPSHOT and FINAL, costs one read, and leaves no poller."""
    stage.reads.says = an_update(status)
    async with stage.watching() as stream:
        assert [(one.kind, one.sequence) for one in stream.events] == [
            (WatchKind.SNAPSHOT, 1),
            (WatchKind.FINAL, 2),
        ]
        assert stream.ended
        assert stage.watches.pollers == 0
    assert len(stage.reads.calls) == 1


async def test_heartbeats(stage: Stage) -> None:
    """Each repeats state and sequence, with the time EKS was last seen, 15 s after the last event."""
    async with stage.watching() as stream:
        await stage.clock.advance(14.9)
        assert len(stream.events) == 1
        await stage.clock.advance(0.2)
        beat = stream.events[1]
        assert (beat.kind, beat.update, beat.sequence) == (WatchKind.HEARTBEAT, an_update(), 1)
        assert beat.observe_time > START + timedelta(seconds=8)
        stage.reads.says = an_update("Reticulating")
        await stage.clock.advance(6)
        assert stream.told[-1] == ("CHANGE", "Reticulating", None, 2)
        await stage.clock.advance(15)
        assert stream.told[-1] == ("HEARTBEAT", "Reticulating", None, 2)


async def test_a_heartbeat_tells_how_old_the_knowledge_is(stage: Stage) -> None:
    """While polls fail the observe time stands still."""
    async with stage.watching() as stream:
        stage.reads.says = EksNotFound()
        await stage.clock.advance(31)
        assert [one.observe_time for one in stream.events] == [START] * 3


async def test_no_heartbeat_before_the_snapshot(stage: Stage) -> None:
    """However long EKS takes, the first event is a state."""
    stage.reads.open.clear()
    async with stage.watching() as stream:
        await stage.clock.advance(40)
        assert stream.events == []
        stage.reads.open.set()
        await stage.clock.advance()
        assert stream.told == [("SNAPSHOT", "InProgress", None, 1)]


async def test_errors_end_the_stream(stage: Stage) -> None:
    """What the watch ends with is raised to whoever reads the events."""
    stage.reads.says = EksNotFound()
    async with stage.watching() as stream:
        assert isinstance(stream.error, EksNotFound)
        assert stream.events == []
