"""Waiting for an event or for the injected clock, whichever comes first."""

from __future__ import annotations

import asyncio

from eksgateway.clock import Clock


async def heard(event: asyncio.Event, clock: Clock, seconds: float) -> bool:
    """Wait until the event is set (True) or the time has passed (False)."""
    if event.is_set() or seconds <= 0:
        return event.is_set()
    waiting = asyncio.ensure_future(event.wait())
    sleeping = asyncio.ensure_future(clock.sleep(seconds))
    try:
        await asyncio.wait((waiting, sleeping), return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
        sleeping.cancel()
    return event.is_set()
