"""wasmtime's engine, and the thread that stops evaluations at their deadline.

wasmtime interrupts a guest when the engine's epoch passes the deadline of its store. The thread that
evaluates is inside the guest, so another thread has to advance the epoch.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import wasmtime

_TICK_S: Final = 0.01
_IDLE_TICKS: Final = 100  # until the thread sleeps, so that a busy gateway does not wake it for each decision


class WasmRuntime:
    """Compiles and runs modules. Its thread sleeps while nothing is evaluated."""

    settings: Final = "epoch_interruption"  # that the machine code depends on

    def __init__(self) -> None:
        config = wasmtime.Config()
        config.epoch_interruption = True
        config.parallel_compilation = False  # the other cores have work to do at a start
        self.engine = wasmtime.Engine(config)
        self._running: set[wasmtime.Store] = set()  # one step adds or discards, under the GIL
        self._wake = threading.Event()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="policy-ticker", daemon=True)
        self._thread.start()

    @contextmanager
    def deadline(self, store: wasmtime.Store, seconds: float) -> Iterator[None]:
        """Make the guest in ``store`` trap if it runs for longer than about ``seconds``."""
        self.begin(store, seconds)
        try:
            yield
        finally:
            self.end(store)

    def begin(self, store: wasmtime.Store, seconds: float) -> None:
        """As ``deadline``, until ``end``: 0.9 µs, where a context and a lock took 3.6."""
        store.set_epoch_deadline(math.ceil(seconds / _TICK_S) + 1)
        self._running.add(store)
        if not self._wake.is_set():
            self._wake.set()

    def end(self, store: wasmtime.Store) -> None:
        self._running.discard(store)

    def close(self) -> None:
        self._closed.set()
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        while self._wake.wait() and not self._closed.is_set():
            # Cleared first: an evaluation that begins while this round ends starts another round.
            self._wake.clear()
            idle = 0
            while idle < _IDLE_TICKS and not self._closed.wait(_TICK_S):
                self.engine.increment_epoch()
                idle = 0 if self._running else idle + 1
