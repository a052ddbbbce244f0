"""ConcurrencyLimit for so many at the same time, which the slow do not keep."""

from __future__ import annotations

import asyncio

from eksgateway.rights.concurrency import ConcurrencyLimit

SLOW_S = 0.05


async def test_who_leaves_late_makes_room_once() -> None:
    """When it has become slow, and not again when it leaves."""
    places = ConcurrencyLimit(1, SLOW_S)
    leave_late = await places.take()
    async with asyncio.timeout(60):
        leave = await places.take()
    leave_late(None)
    waiting = asyncio.create_task(places.take())
    await asyncio.sleep(0)
    assert not waiting.done()
    leave(None)
    leave = await waiting
    leave(None)


async def test_who_leaves_in_time_makes_room_at_once() -> None:
    """And not again later."""
    places = ConcurrencyLimit(1, 60)
    for _ in range(3):
        leave = await places.take()
        waiting = asyncio.create_task(places.take())
        await asyncio.sleep(0)
        assert not waiting.done()
        leave(None)
        (await waiting)(None)


async def test_who_does_not_wait_any_more_takes_no_place() -> None:
    """It is there for the next one."""
    places = ConcurrencyLimit(1, 60)
    leave = await places.take()
    waiting = asyncio.create_task(places.take())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    leave(None)
    (await places.take())(None)
