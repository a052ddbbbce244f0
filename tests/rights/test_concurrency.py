"""The limit on concurrent tasks."""

from __future__ import annotations

import asyncio

from eksgateway.rights.asker import ConcurrencyLimit

SLOW_S = 0.05


async def test_slow_task_frees_its_slot_once() -> None:
    """When it becomes slow, not again at its end."""
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


async def test_fast_task_frees_its_slot_once() -> None:
    """At its end, not again later."""
    limit = ConcurrencyLimit(1, 60)
    for _ in range(3):
        release = await limit.acquire()
        waiting = asyncio.create_task(limit.acquire())
        await asyncio.sleep(0)
        assert not waiting.done()
        release(None)
        (await waiting)(None)


async def test_cancelled_wait_takes_no_slot() -> None:
    limit = ConcurrencyLimit(1, 60)
    release = await limit.acquire()
    waiting = asyncio.create_task(limit.acquire())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    release(None)
    (await limit.acquire())(None)
