"""The watch over descriptors when few are left."""

from __future__ import annotations

import asyncio
import contextlib
import errno
from contextlib import ExitStack
from pathlib import Path

from eksgateway import file_descriptors
from eksgateway.clock import SystemClock
from eksgateway.sandbox.issuer import ThrowawayIssuer
from support.gateway import settings_for


async def test_watch_retries_when_no_room_could_be_made(tmp_path: Path) -> None:
    """Inspecting the connections needs a descriptor too."""
    tries = 0

    async def fail() -> None:
        nonlocal tries
        tries += 1
        raise OSError(errno.EMFILE, "Too many open files")

    settings = settings_for(
        tmp_path, "http://127.0.0.1:1", ThrowawayIssuer("test"), limits={"connections": 1}
    )
    watching = asyncio.create_task(file_descriptors.watch(settings, SystemClock(), fail))
    with ExitStack() as opened:
        async with asyncio.timeout(60):
            while tries < 2 and not watching.done():
                opened.enter_context((tmp_path / "one").open("w"))
                await asyncio.sleep(0.05)
    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching
    assert tries >= 2
