"""The one place that decides which updates this process polls, and who hears of them."""

from __future__ import annotations

import asyncio
from random import Random

from eksgateway.clock import Clock
from eksgateway.errors import Draining, Internal
from eksgateway.logs import Log
from eksgateway.model import Cancellation, UpdateRef
from eksgateway.settings import WatchSettings
from eksgateway.watch.notes import Record
from eksgateway.watch.poller import Poller, Reads, Tools
from eksgateway.watch.resume import ResumePosition
from eksgateway.watch.slot import Slot

log = Log(__name__)


class Watches:
    """At most one poller per update, however many watch it; none that nobody needs."""

    def __init__(
        self, reads: Reads, record: Record, clock: Clock, settings: WatchSettings, random: Random
    ) -> None:
        self._tools = Tools(reads, record, clock, settings, random)
        self._pollers: dict[UpdateRef, tuple[Poller, asyncio.Task[None]]] = {}
        self._draining = False
        self._closed = False

    @property
    def pollers(self) -> int:
        """How many updates are polled."""
        return len(self._pollers)

    @property
    def watchers(self) -> int:
        """How many watch an update that is polled."""
        return sum(poller.watchers for poller, _ in self._pollers.values())

    def subscribe(
        self, ref: UpdateRef, position: ResumePosition | None = None, since: float | None = None
    ) -> Slot:
        """Watch an update, starting its poller or joining it. Raises Draining.

        ``since`` is when the watcher came (monotonic), by default now. It watches until it leaves the slot.

        Subscribing comes before reading, so that no state is missed: the first one is what others who
        watch know already, or was read after the watcher came, or at most ``poll_s`` before. (While EKS
        cannot be read it is the last one known, with its observe time; if there is none, the watcher
        gets EKS's error.) For a position in an earlier stream it is the state told of there, or one that
        is sure to be newer (``watch.resume``); EKS's error if EKS cannot be read for that.
        """
        if self._draining:
            raise Draining
        poller = self._poller(ref)
        slot = Slot(self._tools.clock, poller.detach)
        poller.attach(slot, self._tools.clock.monotonic() if since is None else since, position)
        return slot

    def follow(self, cancellation: Cancellation, answered: float | None = None) -> None:
        """Tell whoever watches of a cancellation whose outcome is committed, and poll until it is settled.

        ``answered`` is when the CancelUpdate began (monotonic) that has just answered with the record's
        update, if one has: then that was a look, and the next one has time.

        May be called any number of times, for any cancellation of the update, also for one that
        is settled or comes from an earlier process (``ledger.pending()`` at the start).
        """
        if not self._closed:
            self._poller(cancellation.ref).follow(cancellation, answered)

    def drain(self) -> None:
        """End every watch with Draining, after its last state; following goes on until ``close``."""
        self._draining = True
        for poller, _ in self._pollers.values():
            poller.close(Draining())

    async def close(self) -> None:
        """Stop polling. What is pending then is taken up after the next start."""
        self.drain()
        self._closed = True
        tasks = [task for _, task in self._pollers.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._pollers.clear()  # a task that was cancelled before its first step cleared nothing

    def _poller(self, ref: UpdateRef) -> Poller:
        known = self._pollers.get(ref)
        if known is not None:
            return known[0]
        poller = Poller(ref, self._tools)
        self._pollers[ref] = poller, asyncio.create_task(self._run(poller), name=f"poll {ref}")
        return poller

    async def _run(self, poller: Poller) -> None:
        try:
            while not await self._ran(poller):
                await self._tools.clock.sleep(self._tools.settings.follow_s)
        finally:
            del self._pollers[poller.ref]

    async def _ran(self, poller: Poller) -> bool:
        """Whether the poller came to its end. With a bug it does not while a cancellation is pending, which
        nobody else would follow.
        """
        try:
            await poller.run()
        except Exception:
            log.exception("watch.poller_failed", update=str(poller.ref))
            poller.close(Internal())  # nobody waits for ever on it
            return not poller.pending
        return True
