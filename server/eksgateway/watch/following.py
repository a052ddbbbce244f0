"""Follows every cancellation that is not settled, whichever replica recorded it."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Final

from eksgateway.clock import Clock, wait_for
from eksgateway.errors import LedgerUnavailable
from eksgateway.ledger.cancellation_notices import CancellationNotices
from eksgateway.ledger.protocol import Ledger, Recorded
from eksgateway.logs import Log
from eksgateway.model import UpdateRef
from eksgateway.watch.watches import Watches

log = Log(__name__)

_COMPARE_S: Final = 10.0
_RETRY_S: Final = 1.0
_READ: Final = 500  # cancellations in a query


class Following:
    """Hands the records of other replicas to ``watches``.

        start ──► take up all ──► wait ──(a notice)──► read what changed ──► take it up ──► wait
                                   └──(every 10 s, or notices were missed)──► compare all ──┘

    A cancellation whose forward may be in flight is not taken up: it has no outcome yet. Its replica
    follows it after the outcome. If there is none in time, the next comparison takes it up.
    """

    def __init__(
        self,
        ledger: Ledger,
        watches: Watches,
        notices: CancellationNotices,
        clock: Clock,
        compare_s: float = _COMPARE_S,
    ) -> None:
        self._compare_s = compare_s
        self._ledger = ledger
        self._watches = watches
        self._clock = clock
        self._pending: dict[str, Recorded] = {}  # taken up
        self._updates: Counter[UpdateRef] = Counter()  # of those
        self._changed: set[str] = set()
        self._compare_at = 0.0  # monotonic
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        notices.subscribe(self._hear, self._catch_up)

    @property
    def cancellation_ids(self) -> tuple[str, ...]:
        """Those that are taken up and not settled."""
        return tuple(self._pending)

    async def start(self, *, replicas: bool) -> None:
        """Take up all. With ``replicas``, keep up with other ones. Raises LedgerUnavailable."""
        for each in await self._ledger.pending():
            if each.in_flight_s <= 0:
                self._count(each)
                self._watches.follow(each.cancellation, None)  # polled at once: its record may be old
        if replicas:
            self._compare_at = self._clock.monotonic() + self._compare_s
            self._task = asyncio.create_task(self._run(), name="following")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _hear(self, cancellation_id: str) -> None:
        self._changed.add(cancellation_id)
        self._wake.set()

    def _catch_up(self) -> None:
        self._compare_at = 0.0
        self._wake.set()

    async def _run(self) -> None:
        failing = False
        while True:
            await wait_for(self._wake, self._clock, self._compare_at - self._clock.monotonic())
            self._wake.clear()
            try:
                await self._keep_up()
                failing = False
                continue
            except LedgerUnavailable as exc:
                if not failing:
                    log.warning("following.unavailable", detail=exc.detail)
                failing = True
            except Exception:  # a bug in one record must not end the following of others
                log.exception("following.failed")
            self._changed.clear()  # the comparison finds them
            await self._clock.sleep(_RETRY_S)
            self._catch_up()

    async def _keep_up(self) -> None:
        if self._clock.monotonic() >= self._compare_at:
            self._compare_at = self._clock.monotonic() + self._compare_s
            self._changed |= self._find_changes(await self._ledger.pending_ids())
        while self._changed:
            ids = list(self._changed)[:_READ]
            self._changed.difference_update(ids)
            for each in await self._ledger.read(ids):
                # This process follows its own once they have an outcome.
                if each.in_flight_s <= 0 and (each.elsewhere or each.cancellation.outcome is not None):
                    self._take_up(each)

    def _find_changes(self, pending: dict[str, int]) -> set[str]:
        """The ids of those that are not taken up as they are, and of those that are settled."""
        followed = {
            key: each.latest
            for key, each in self._pending.items()
            if self._watches.is_polled(each.cancellation.ref)
        }
        changed = {key for key, latest in pending.items() if followed.get(key) != latest}
        return changed | (self._pending.keys() - pending.keys())

    def _take_up(self, found: Recorded) -> None:
        self._watches.take_up(found.cancellation, pending=self._count(found))

    def _count(self, found: Recorded) -> bool:
        """Return whether any cancellation of its update is pending."""
        cancellation = found.cancellation
        self._updates[cancellation.ref] += (not cancellation.settled) - (cancellation.id in self._pending)
        if cancellation.settled:
            self._pending.pop(cancellation.id, None)
        else:
            self._pending[cancellation.id] = found
        pending = self._updates[cancellation.ref] > 0
        if not pending:
            del self._updates[cancellation.ref]
        return pending
