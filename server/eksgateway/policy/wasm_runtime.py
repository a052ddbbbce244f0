"""The watchdog of evaluations in the process: turns a Wasm engine's epochs over while one runs.

wasmtime interrupts a guest when the engine's epoch passes the store's deadline; somebody else has
to move the epoch, because the thread that evaluates is inside the guest.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import wasmtime

TICK_S: Final = 0.01
_IDLE_TICKS: Final = 100  # goes on for a while, so that a busy gateway does not wake it for each decision


class Ticker:
    """One daemon thread, asleep while nothing is evaluated."""

    def __init__(self, engine: wasmtime.Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()  # guards _running
        self._running = 0
        self._wanted = threading.Event()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="policy-ticker", daemon=True)
        self._thread.start()

    @contextmanager
    def deadline(self, store: wasmtime.Store, seconds: float) -> Iterator[None]:
        """The guest in ``store`` traps if it is not done within about ``seconds``."""
        store.set_epoch_deadline(math.ceil(seconds / TICK_S) + 1)
        with self._lock:
            self._running += 1
        self._wanted.set()
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1

    def close(self) -> None:
        self._closed.set()
        self._wanted.set()
        self._thread.join()

    def _run(self) -> None:
        while self._wanted.wait() and not self._closed.is_set():
            # Cleared first: an evaluation that begins while this round ends starts another round.
            self._wanted.clear()
            idle = 0
            while idle < _IDLE_TICKS and not self._closed.wait(TICK_S):
                self._engine.increment_epoch()
                idle = 0 if self._running else idle + 1
