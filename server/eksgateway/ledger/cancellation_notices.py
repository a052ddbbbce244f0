"""Notices to parts of this process that cancellations in the ledger have changed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeAlias

CANCELLATIONS: Final = "cancellations"  # the channel, whose payloads are cancellation ids

Hear: TypeAlias = Callable[[str], None]
CatchUp: TypeAlias = Callable[[], None]


class CancellationNotices:
    """Notices of what all replicas record, this one included. A gateway on SQLite gets none.

    A notice may come late, twice or not at all. So a part that waits for one also reads at intervals.
    """

    def __init__(self) -> None:
        self._hearers: list[tuple[Hear, CatchUp]] = []
        self._waiting: dict[str, list[asyncio.Event]] = {}

    def subscribe(self, hear: Hear, catch_up: CatchUp) -> None:
        """Call ``hear`` with the id of each cancellation that changes, and ``catch_up`` when notices may have
        been missed. Both return at once.
        """
        self._hearers.append((hear, catch_up))

    @contextmanager
    def changes_of(self, cancellation_id: str) -> Iterator[asyncio.Event]:
        """An event that is set at first, and again after each change of a cancellation."""
        changed = asyncio.Event()
        changed.set()
        waiting = self._waiting.setdefault(cancellation_id, [])
        waiting.append(changed)
        try:
            yield changed
        finally:
            waiting.remove(changed)
            if not waiting:
                del self._waiting[cancellation_id]

    def hear(self, cancellation_id: str) -> None:
        """A cancellation has changed."""
        for changed in self._waiting.get(cancellation_id, ()):
            changed.set()
        for hear, _ in self._hearers:
            hear(cancellation_id)

    def catch_up(self) -> None:
        """Notices may have been missed."""
        for waiting in self._waiting.values():
            for changed in waiting:
                changed.set()
        for _, catch_up in self._hearers:
            catch_up()
