"""The events of one watch stream."""

from __future__ import annotations

from datetime import timedelta

import pytest

from eksgateway.errors import EksNotFound
from eksgateway.watch.events import WatchKind
from support.watching import START, Stage, an_update


async def test_watch_yields_snapshot_changes_and_final(stage: Stage) -> None:
    """The sequence rises by one with each event; after FINAL the stream ends."""
    async with stage.watching() as stream:
        for status in ("Reticulating", "Cancelling", "Cancelled"):
            stage.reads.answer = an_update(status)
            await stage.clock.advance(6)
        assert stream.received == [
            ("SNAPSHOT", "InProgress", None, 1),
            ("CHANGE", "Reticulating", None, 2),
            ("CHANGE", "Cancelling", "CANCELLING", 3),
            ("FINAL", "Cancelled", "CANCELLED", 4),
        ]
        assert stream.ended
        assert stream.error is None


@pytest.mark.parametrize("status", ["Cancelled", "Successful", "Failed"])
async def test_ended_update_yields_snapshot_and_final(stage: Stage, status: str) -> None:
    """It costs one read and leaves no poller."""
    stage.reads.answer = an_update(status)
    async with stage.watching() as stream:
        assert [(one.kind, one.sequence) for one in stream.events] == [
            (WatchKind.SNAPSHOT, 1),
            (WatchKind.FINAL, 2),
        ]
        assert stream.ended
        assert stage.watches.pollers == 0
    assert len(stage.reads.calls) == 1


async def test_heartbeat_repeats_state_and_sequence(stage: Stage) -> None:
    """It comes 15 s after the last event, with the time of EKS's last answer."""
    async with stage.watching() as stream:
        await stage.clock.advance(14.9)
        assert len(stream.events) == 1
        await stage.clock.advance(0.2)
        beat = stream.events[1]
        assert (beat.kind, beat.update, beat.sequence) == (WatchKind.HEARTBEAT, an_update(), 1)
        assert beat.observe_time > START + timedelta(seconds=8)
        stage.reads.answer = an_update("Reticulating")
        await stage.clock.advance(6)
        assert stream.received[-1] == ("CHANGE", "Reticulating", None, 2)
        await stage.clock.advance(15)
        assert stream.received[-1] == ("HEARTBEAT", "Reticulating", None, 2)


async def test_heartbeat_keeps_the_observe_time_while_polls_fail(stage: Stage) -> None:
    async with stage.watching() as stream:
        stage.reads.answer = EksNotFound()
        await stage.clock.advance(31)
        assert [one.observe_time for one in stream.events] == [START] * 3


async def test_no_heartbeat_comes_before_the_snapshot(stage: Stage) -> None:
    """However long EKS takes, the first event is a state."""
    stage.reads.open.clear()
    async with stage.watching() as stream:
        await stage.clock.advance(40)
        assert stream.events == []
        stage.reads.open.set()
        await stage.clock.advance()
        assert stream.received == [("SNAPSHOT", "InProgress", None, 1)]


async def test_error_ends_the_stream(stage: Stage) -> None:
    stage.reads.answer = EksNotFound()
    async with stage.watching() as stream:
        assert isinstance(stream.error, EksNotFound)
        assert stream.events == []
