"""Signals: SIGTERM and SIGINT stop a process, SIGHUP makes it reload its files.

A child process also stops when its standard input closes, so that none outlives a parent that was killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from eksgateway.blocking import start_blocking


@contextlib.contextmanager
def stop_event(*, with_stdin: bool = False) -> Iterator[asyncio.Event]:
    """An event that is set when this process should stop. Enter it in the running loop."""
    event = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, event.set)
    if with_stdin:
        start_blocking(_read_stdin_to_its_end).add_done_callback(lambda _: event.set())
    try:
        yield event
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


async def run_until(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Run the work, and cancel it once the event is set. Return whether it ran to its end."""
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


@contextlib.contextmanager
def on_hangup(act: Callable[[], None]) -> Iterator[None]:
    """Call this at each SIGHUP, which ends a process by default. Enter it in the running loop."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, act)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


def _read_stdin_to_its_end() -> None:
    # os.read, not sys.stdin: a daemon thread that holds its lock would break the interpreter's exit.
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
