"""When a process should end: on SIGTERM, on SIGINT and, for children, when standard input closes; and
when it should look at its files again: on SIGHUP.

A child whose parent was killed sees its standard input end: so nothing outlives a killed parent.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any


@contextlib.contextmanager
def ending(*, with_stdin: bool = False) -> Iterator[asyncio.Event]:
    """An event that is set when this process should end. Enter it in the running loop."""
    event = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, event.set)
    if with_stdin:
        threading.Thread(target=_until_stdin_ends, args=(loop, event), daemon=True).start()
    try:
        yield event
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


async def until(ended: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Do the work, but stop it as soon as this process should end; whether it was done."""
    working = asyncio.create_task(work)
    waiting = asyncio.create_task(ended.wait())
    try:
        await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
            return True
        return False
    finally:
        for task in (working, waiting):
            task.cancel()
        await asyncio.gather(working, waiting, return_exceptions=True)


@contextlib.contextmanager
def on_hangup(act: Callable[[], None]) -> Iterator[None]:
    """Do this at each SIGHUP, which else ends a process. Enter it in the running loop."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, act)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


def _until_stdin_ends(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    # os.read, not sys.stdin: a daemon thread that holds its lock would break the interpreter's exit.
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    with contextlib.suppress(RuntimeError):  # the loop is closed already
        loop.call_soon_threadsafe(event.set)
