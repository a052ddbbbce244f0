"""The watchers of one update."""

from __future__ import annotations

import math

from eksgateway.errors import GatewayError
from eksgateway.watch.resume import ResumePosition
from eksgateway.watch.slot import Slot, WatchState
from eksgateway.watch.tracked_update import TrackedUpdate


class WatcherSet:
    """Decides which state may be a watcher's first; every later one goes to all.

    The first is final, or current for other watchers (joining them costs EKS nothing), or from a call that
    began at most ``poll_s`` before the watcher came. It may be older only while EKS cannot be read.

    A watcher that resumes never gets a state older than its own: the first is that of its position, or from
    a call that began after it came. While EKS cannot be read, its watch ends with EKS's error.
    """

    def __init__(self, poll_s: float) -> None:
        self._poll_s = poll_s
        self._current: set[Slot] = set()
        self._joining: dict[Slot, tuple[float, ResumePosition | None]] = {}  # since when, monotonic

    def __len__(self) -> int:
        return len(self._current) + len(self._joining)

    @property
    def any_joining(self) -> bool:
        return bool(self._joining)

    @property
    def joining_since(self) -> float:
        """A state from a call that began after this (monotonic) is accepted for every watcher that waits."""
        return max(
            (since - self._poll_s * (position is None) for since, position in self._joining.values()),
            default=-math.inf,
        )

    def add(self, slot: Slot, since: float, position: ResumePosition | None, known: TrackedUpdate) -> None:
        state = known.state
        if state is not None and self._accepts(state, known, since, position):
            self._current.add(slot)
            slot.put(state)
        else:
            self._joining[slot] = since, position

    def remove(self, slot: Slot) -> None:
        self._current.discard(slot)
        self._joining.pop(slot, None)

    def publish(self, known: TrackedUpdate) -> None:
        state = known.state
        if state is None:
            return
        for slot, (since, position) in tuple(self._joining.items()):
            if self._accepts(state, known, since, position):
                del self._joining[slot]
                self._current.add(slot)
            elif position is not None and known.failure is not None:
                slot.close(known.failure)  # the known state may be older than the watcher's own
        for slot in self._current:
            slot.put(state)

    def close(self, error: GatewayError) -> None:
        for slot in (*self._current, *self._joining):
            slot.close(error)

    def _accepts(
        self, state: WatchState, known: TrackedUpdate, since: float, position: ResumePosition | None
    ) -> bool:
        began = known.sighting.began if known.sighting else -math.inf
        if state.final:
            return True
        if position is not None:
            return began > since or position.matches(state)
        young = began >= since - self._poll_s
        return young or bool(self._current) or known.failure is not None
