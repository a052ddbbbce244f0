"""Signals: SIGTERM and SIGINT stop a process, SIGHUP makes it reload its files.

A child process also stops when its standard input closes, so that none outlives a parent that was killed.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

from eksgateway.blocking import start_blocking


@contextmanager
def stop_event(*, with_stdin: bool = False) -> Iterator[asyncio.Event]:
    """Yield an event that is set when this process should stop. Enter it in the running loop."""
    event = asyncio.Event()
    with _handler(event.set, signal.SIGTERM, signal.SIGINT):
        if with_stdin:
            start_blocking(_read_stdin_to_its_end).add_done_callback(lambda _: event.set())
        yield event


def on_hangup(act: Callable[[], None]) -> AbstractContextManager[None]:
    """Enter it in the running loop. Without a handler SIGHUP ends a process."""
    return _handler(act, signal.SIGHUP)


@contextmanager
def _handler(act: Callable[[], None], *numbers: int) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    for number in numbers:
        loop.add_signal_handler(number, act)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


async def run_until(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Run the work, cancel it once the event is set, and return whether it ran to its end."""
    working = asyncio.create_task(work)
    waiting = asyncio.create_task(stop.wait())
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


def _read_stdin_to_its_end() -> None:
    # os.read, not sys.stdin: a daemon thread that holds its lock would break the interpreter's exit.
    with suppress(OSError):
        while os.read(0, 4096):
            pass
