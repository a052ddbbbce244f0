"""Ends a command by a signal as by Ctrl-C: the terminal is restored, and a token command is ended."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def end_by_signals() -> Iterator[None]:
    """A signal cancels the current task. The exit code is 128 and the signal's number, as in a shell."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None  # noqa: S101  it runs in one
    received: list[int] = []

    def end(number: int) -> None:
        received.append(number)
        task.cancel()

    handled = [each for each in _SIGNALS if signal.getsignal(each) is signal.SIG_DFL]  # nohup ignores one
    for each in handled:
        loop.add_signal_handler(each, end, each)
    try:
        yield
    except asyncio.CancelledError:
        if received:
            raise SystemExit(128 + received[0]) from None
        raise
    finally:
        for each in handled:
            loop.remove_signal_handler(each)
