"""All watches of this process: one poller per update, shared by its watchers."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from random import Random

from eksgateway.clock import Clock
from eksgateway.eks.shared_reads import SharedReads
from eksgateway.errors import Draining, Internal
from eksgateway.logs import Log
from eksgateway.model import Cancellation, UpdateRef
from eksgateway.settings import WatchSettings
from eksgateway.watch.poller import Poller
from eksgateway.watch.recording import RecordObservation
from eksgateway.watch.resume import ResumePosition
from eksgateway.watch.slot import Slot

log = Log(__name__)


@dataclass(eq=False)
class Watches:
    """Starts a poller for an update that is watched or followed; it ends when it is neither."""

    reads: SharedReads
    record_observation: RecordObservation
    clock: Clock
    settings: WatchSettings
    random: Random

    def __post_init__(self) -> None:
        self._pollers: dict[UpdateRef, tuple[Poller, asyncio.Task[None]]] = {}
        self._draining = False
        self._closed = False

    @property
    def pollers(self) -> int:
        return len(self._pollers)

    @property
    def watchers(self) -> int:
        return sum(poller.watchers for poller, _ in self._pollers.values())

    def subscribe(
        self, ref: UpdateRef, position: ResumePosition | None = None, since: float | None = None
    ) -> Slot:
        """Watch an update from a position, until the slot is left as a context. Raises Draining.

        ``since`` is when the watcher came (monotonic), by default now.
        """
        if self._draining:
            raise Draining
        poller = self._poller(ref)
        slot = Slot(self.clock, poller.detach)
        poller.attach(slot, self.clock.monotonic() if since is None else since, position)
        return slot

    def follow(self, cancellation: Cancellation, began: float | None = None) -> None:
        """Publish a cancellation whose outcome is committed, and poll until it is settled.

        ``began`` is when the CancelUpdate call began (monotonic) that answered with the record's update:
        that counts as a poll. May be called for any cancellation, also again, settled, or of an earlier
        process.
        """
        if not self._closed:
            self._poller(cancellation.ref).follow(cancellation, began)

    def take_up(self, cancellation: Cancellation, *, pending: bool) -> None:
        """Publish a cancellation as another replica has recorded it, and poll while any of its update is
        ``pending``.

        An observation in it was read from EKS, so it asks for no poll.
        """
        if not self._closed and (pending or self.is_polled(cancellation.ref)):
            self._poller(cancellation.ref).take_up(cancellation, pending=pending)

    def is_polled(self, ref: UpdateRef) -> bool:
        return ref in self._pollers

    def drain(self) -> None:
        """End every watch with Draining, after its last state. Cancellations are followed until ``close``."""
        self._draining = True
        for poller, _ in self._pollers.values():
            poller.close(Draining())

    async def close(self) -> None:
        self.drain()
        self._closed = True
        tasks = [task for _, task in self._pollers.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._pollers.clear()  # a task that is cancelled before its first step does not remove itself

    def _poller(self, ref: UpdateRef) -> Poller:
        known = self._pollers.get(ref)
        if known is not None:
            return known[0]
        poller = Poller(ref, self.reads, self.record_observation, self.clock, self.settings, self.random)
        self._pollers[ref] = poller, asyncio.create_task(self._run(poller), name=f"poll {ref}")
        return poller

    async def _run(self, poller: Poller) -> None:
        """After a bug, restart the poller while a cancellation is pending."""
        try:
            while True:
                try:
                    return await poller.run()
                except Exception:
                    log.exception("watch.poller_failed", update=str(poller.ref))
                    poller.close(Internal())
                    if not poller.pending:
                        return None
                await self.clock.sleep(self.settings.follow_s)
        finally:
            del self._pollers[poller.ref]
