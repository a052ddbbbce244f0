"""ConcurrencyLimit for so many at the same time, which the slow do not keep."""

from __future__ import annotations

import asyncio

from eksgateway.rights.concurrency import ConcurrencyLimit

SLOW_S = 0.05


async def test_who_leaves_late_makes_room_once() -> None:
    """When it has become slow, and not again when it leaves."""
    limit = ConcurrencyLimit(1, SLOW_S)
    release_late = await limit.acquire()
    async with asyncio.timeout(60):
        release = await limit.acquire()
    release_late(None)
    waiting = asyncio.create_task(limit.acquire())
    await asyncio.sleep(0)
    assert not waiting.done()
    release(None)
    release = await waiting
    release(None)


async def test_who_leaves_in_time_makes_room_at_once() -> None:
    """And not again later."""
    limit = ConcurrencyLimit(1, 60)
    for _ in range(3):
        release = await limit.acquire()
        waiting = asyncio.create_task(limit.acquire())
        await asyncio.sleep(0)
        assert not waiting.done()
        release(None)
        (await waiting)(None)


async def test_who_does_not_wait_any_more_takes_no_place() -> None:
    """It is there for the next one."""
    limit = ConcurrencyLimit(1, 60)
    release = await limit.acquire()
    waiting = asyncio.create_task(limit.acquire())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    release(None)
    (await limit.acquire())(None)
