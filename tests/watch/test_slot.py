"""The slot by itself."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from eksgateway.errors import Draining, EksNotFound
from eksgateway.watch.slot import Slot
from eksgateway.watch.state import WatchState
from support.clock import FakeClock
from support.watching import START, an_update


def state(status: str, seconds: float = 0) -> WatchState:
    return WatchState(an_update(status), None, START + timedelta(seconds=seconds))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def slot(clock: FakeClock) -> Slot:
    return Slot(clock)


async def test_the_latest_replaces_what_was_not_read(slot: Slot) -> None:
    """A slow reader gets the newest state only."""
    for status in ("A", "B", "C"):
        slot.put(state(status))
    assert await slot.next(0) == state("C")
    assert await slot.next(0) is None


async def test_a_waiting_reader_is_woken(slot: Slot, clock: FakeClock) -> None:
    """A state that comes while somebody waits is given at once, and the timer goes."""
    waiting = asyncio.create_task(slot.next(15))
    await clock.advance(3)
    slot.put(state("A"))
    assert await waiting == state("A")
    await clock.advance()
    assert clock.sleepers == 0


async def test_the_same_again_is_no_news(slot: Slot) -> None:
    """An equal state only moves the time EKS was last seen."""
    slot.put(state("A"))
    await slot.next(0)
    slot.put(state("A", 5))
    assert await slot.next(0) is None
    assert slot.last_seen == START + timedelta(seconds=5)


async def test_there_and_back_is_no_news(slot: Slot) -> None:
    """A reader who slept through a change that was undone hears of nothing."""
    slot.put(state("A"))
    await slot.next(0)
    slot.put(state("B"))
    slot.put(state("A"))
    assert await slot.next(0) is None


@pytest.mark.parametrize("read", [False, True], ids=["unread", "read"])
async def test_a_final_state_stays(slot: Slot, read: bool) -> None:
    """Nothing that is not final replaces a final state, or follows it."""
    slot.put(state("Cancelled"))
    if read:
        assert await slot.next(0) == state("Cancelled")
    slot.put(state("InProgress", 5))
    assert await slot.next(0) == (None if read else state("Cancelled"))


@pytest.mark.parametrize("spurious", [False, True], ids=["quiet", "woken for nothing"])
async def test_the_timeout_is_on_the_clock(slot: Slot, clock: FakeClock, spurious: bool) -> None:
    """None comes when the time has passed, neither earlier nor put off by what is no news."""
    slot.put(state("A"))
    await slot.next(0)
    waiting = asyncio.create_task(slot.next(15))
    await clock.advance(14)
    if spurious:
        slot.put(state("B"))
        slot.put(state("A"))
    await clock.advance(0.9)
    assert not waiting.done()
    await clock.advance(0.2)
    assert await waiting is None


async def test_closing_wakes_the_reader(slot: Slot, clock: FakeClock) -> None:
    """Whoever waits gets the error, again and again, the first one given."""
    waiting = asyncio.create_task(slot.next(15))
    await clock.advance()
    slot.close(EksNotFound())
    slot.close(Draining())
    for reading in (waiting, slot.next(15)):
        with pytest.raises(EksNotFound):
            await reading


async def test_closing_comes_after_the_last_state(slot: Slot) -> None:
    """What was not read yet is given before the error; nothing comes after it."""
    slot.put(state("A"))
    slot.close(Draining())
    slot.put(state("B"))
    assert await slot.next(15) == state("A")
    with pytest.raises(Draining):
        await slot.next(15)


async def test_one_error_for_many_readers(clock: FakeClock) -> None:
    """Each gets an exception of its own, whose traceback is not the others'."""
    slots, error = [Slot(clock), Slot(clock)], EksNotFound("gone", metadata={"eks_code": "X"})
    raised = []
    for slot in slots:
        slot.close(error)
        with pytest.raises(EksNotFound) as caught:
            await slot.next(0)
        raised.append(caught.value)
    assert raised[0] is not raised[1]
    assert [(one.message, one.metadata) for one in raised] == [("gone", {"eks_code": "X"})] * 2
    assert error.__traceback__ is None


async def test_a_reader_that_is_cancelled_leaves_nothing(slot: Slot, clock: FakeClock) -> None:
    """Cancelling a wait is a cancellation, and the timer goes with it."""
    waiting = asyncio.create_task(slot.next(15))
    await clock.advance()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await clock.advance()
    assert clock.sleepers == 0
