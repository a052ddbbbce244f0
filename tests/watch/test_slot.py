"""One slot, by itself."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from eksgateway.errors import Draining, EksNotFound
from eksgateway.watch.slot import Slot, WatchState
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


async def test_later_state_replaces_an_unread_one(slot: Slot) -> None:
    for status in ("A", "B", "C"):
        slot.put(state(status))
    assert await slot.next(0) == state("C")
    assert await slot.next(0) is None


async def test_put_wakes_a_waiting_reader(slot: Slot, clock: FakeClock) -> None:
    """Its timer is cancelled."""
    waiting = asyncio.create_task(slot.next(15))
    await clock.advance(3)
    slot.put(state("A"))
    assert await waiting == state("A")
    await clock.advance()
    assert clock.sleepers == 0


async def test_equal_state_is_not_returned_again(slot: Slot) -> None:
    """It only moves ``last_seen``."""
    slot.put(state("A"))
    await slot.next(0)
    slot.put(state("A", 5))
    assert await slot.next(0) is None
    assert slot.last_seen == START + timedelta(seconds=5)


async def test_change_that_is_undone_before_reading_is_not_returned(slot: Slot) -> None:
    slot.put(state("A"))
    await slot.next(0)
    slot.put(state("B"))
    slot.put(state("A"))
    assert await slot.next(0) is None


@pytest.mark.parametrize("read", [False, True], ids=["unread", "read"])
async def test_final_state_is_not_replaced(slot: Slot, read: bool) -> None:
    """Nor does a state that is not final follow it."""
    slot.put(state("Cancelled"))
    if read:
        assert await slot.next(0) == state("Cancelled")
    slot.put(state("InProgress", 5))
    assert await slot.next(0) == (None if read else state("Cancelled"))


@pytest.mark.parametrize("spurious", [False, True], ids=["quiet", "woken for nothing"])
async def test_next_returns_none_after_the_timeout(slot: Slot, clock: FakeClock, spurious: bool) -> None:
    """A wake-up without a new state does not prolong it."""
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


async def test_close_raises_the_first_error_at_every_read(slot: Slot, clock: FakeClock) -> None:
    waiting = asyncio.create_task(slot.next(15))
    await clock.advance()
    slot.close(EksNotFound())
    slot.close(Draining())
    for reading in (waiting, slot.next(15)):
        with pytest.raises(EksNotFound):
            await reading


async def test_close_raises_after_the_unread_state(slot: Slot) -> None:
    slot.put(state("A"))
    slot.close(Draining())
    slot.put(state("B"))
    assert await slot.next(15) == state("A")
    with pytest.raises(Draining):
        await slot.next(15)


async def test_error_for_many_slots_is_copied(clock: FakeClock) -> None:
    """Each exception has its own traceback."""
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


async def test_cancelled_reader_leaves_no_timer(slot: Slot, clock: FakeClock) -> None:
    waiting = asyncio.create_task(slot.next(15))
    await clock.advance()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await clock.advance()
    assert clock.sleepers == 0
