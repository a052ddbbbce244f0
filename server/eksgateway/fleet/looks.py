"""Looks of all replicas at one kind of resource. Without PostgreSQL, each replica looks for itself."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, Generic, TypeVar

from cachetools import TTLCache

from eksgateway.clock import Clock, wait_for
from eksgateway.eks.looks import Claim, Look
from eksgateway.eks.shared_reads import ReplicaLooks
from eksgateway.errors import EksRefused, GatewayError
from eksgateway.fleet.connections import FleetUnavailable
from eksgateway.fleet.look_table import LookRow, LookTable, Report
from eksgateway.fleet.look_texts import CLUSTERS, UPDATES, LookKind, read_failure, write_body, write_failure
from eksgateway.fleet.notices import LOOKS, Notices
from eksgateway.ledger.codec import CodecError
from eksgateway.logs import Log

log = Log(__name__)

K = TypeVar("K")
V = TypeVar("V")

_REREAD_S: Final = 0.25  # while another replica looks, without a notice
_REMEMBER_S: Final = 60.0  # longer than any reader accepts a look's age
_MOST_FLOORS: Final = 4096


class LooksOfKind(Generic[K, V]):
    """Implements ``eks.looks.Looks``.

    A look that began before its key's floor is void, whatever the table has: the key was forgotten here,
    the row is damaged, or the database's clock was set back.
    """

    shared = True

    def __init__(self, kind: LookKind[K, V], table: LookTable, clock: Clock, counts: Counter[str]) -> None:
        self._kind = kind
        self._table = table
        self._clock = clock
        self._counts = counts
        self._floors: TTLCache[str, float] = TTLCache(_MOST_FLOORS, _REMEMBER_S, timer=clock.monotonic)
        self._damaged: set[str] = set()  # logged already
        self._finding: dict[asyncio.Event, str] = {}
        self._hearers: list[Callable[[K | None], None]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def find(self, key: K, oldest: float) -> Look[V] | None:
        text, until = self._kind.key_text(key), self._clock.monotonic() + self._table.claim_s
        changed = asyncio.Event()
        self._finding[changed] = text
        try:
            while True:
                changed.clear()
                row = await self._table.read(text)
                look = self._read(key, text, row, max(oldest, self._floor(text)))
                if look is not None:
                    self._counts["shared"] += not look.mine
                    return look
                if not row.claimed or self._clock.monotonic() >= until:
                    return None
                await wait_for(changed, self._clock, _REREAD_S)
        except FleetUnavailable:
            return None
        finally:
            del self._finding[changed]

    async def claim(self, key: K, oldest: float) -> Claim | None:
        text = self._kind.key_text(key)
        try:
            granted = await self._table.claim(text, max(oldest, self._floor(text)))
        except FleetUnavailable:
            return Claim(self._clock.now(), self._clock.monotonic(), shared=False)
        return None if granted is None else Claim(*granted, shared=True)

    async def report(self, key: K, claim: Claim, value: V) -> Look[V] | None:
        text = self._kind.key_text(key)
        self._counts["taken"] += 1
        if claim.began <= self._floor(text):
            self._counts["void"] += 1
            return None
        own = Look(value, claim.time, claim.began)
        if not claim.shared:
            return own
        try:
            changed = await self._table.report(Report(text, claim.time, body=write_body(value)))
        except FleetUnavailable:
            return own
        if changed is None:
            self._counts["void"] += 1
            return None
        self._damaged.discard(text)
        return Look(value, claim.time, claim.began, min(changed, claim.began))

    async def fail(self, key: K, claim: Claim, error: GatewayError) -> None:
        if not claim.shared:
            return
        text = self._kind.key_text(key)
        with suppress(FleetUnavailable):
            if isinstance(error, EksRefused) and claim.began > self._floor(text):
                self._counts["taken"] += 1
                await self._table.report(Report(text, claim.time, failure=write_failure(error)))
            else:
                await self._table.free(text)

    def forget(self, key: K) -> None:
        text = self._kind.key_text(key)
        self._floors[text] = self._clock.monotonic()
        self._start(self._forget(text))

    def subscribe(self, hear: Callable[[K | None], None]) -> None:
        self._hearers.append(hear)

    def hear(self, text: str) -> None:
        """A notice came."""
        for event, awaited in self._finding.items():
            if awaited == text:
                event.set()
        key = self._kind.read_key(text)
        if key is not None:
            self._notify(key)

    def catch_up(self) -> None:
        """Notices may have been missed."""
        self._notify(None)

    async def close(self) -> None:
        """Wait for what was forgotten."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _read(self, key: K, text: str, row: LookRow, oldest: float) -> Look[V] | None:
        if row.began is None or row.began <= oldest:
            return None
        try:
            if row.failure is not None:
                raise read_failure(row.failure)
            value, time = self._kind.read_body(row.body or "", key), row.looked_at
        except CodecError as exc:
            if text not in self._damaged:
                self._damaged.add(text)
                log.warning("fleet.look_damaged", key=text, reason=str(exc))
            self._floors[text] = self._clock.monotonic()
            return None
        return Look(value, time, row.began, row.changed, row.mine) if time else None

    def _floor(self, text: str) -> float:
        return max(self._table.valid_from, self._floors.get(text, float("-inf")))

    def _notify(self, key: K | None) -> None:
        for hear in self._hearers:
            hear(key)

    async def _forget(self, text: str) -> None:
        with suppress(FleetUnavailable):
            await self._table.forget(text)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class FleetLooks:
    """The looks of one replica, over one table, at updates and clusters."""

    def __init__(self, table: LookTable, notices: Notices, clock: Clock, counts: Counter[str]) -> None:
        self._table = table
        updates = LooksOfKind(UPDATES, table, clock, counts)
        clusters = LooksOfKind(CLUSTERS, table, clock, counts)
        self.by_kind = ReplicaLooks(clusters, updates)
        self._kinds: tuple[LooksOfKind[Any, Any], ...] = (updates, clusters)
        for each in self._kinds:
            notices.subscribe(LOOKS, each.hear, each.catch_up)

    def catch_up(self) -> None:
        """Notices may have been missed."""
        for each in self._kinds:
            each.catch_up()

    async def clean(self) -> None:
        """Delete old rows. Raises FleetUnavailable."""
        await self._table.clean()

    async def close(self) -> None:
        await asyncio.gather(*(each.close() for each in self._kinds))
        await self._table.close()
