"""One issuer's keys over time: cached, fetched by one task at a time, and never lost to an outage early.

          first fetch                half the maximum age            maximum age
    none ────────────▶ fresh (served) ────────────▶ fresh, and fetched behind the calls ────▶ none
                         ▲                                  │
                         └──────── a fetch succeeds ────────┘   a fetch that fails changes nothing

A call makes a fetch begin at most once in a cool-down, whatever it lacks: any keys, a `kid`, a key that
verifies. So neither a flood of forged tokens nor an outage becomes a flood at the issuer.

Without a call there is a fetch at the start, repeated until there are keys; at ``reload``; and every
second of a source that is followed (a file). A file that has changed is put in force when two looks find
the same in it, or at the first one if a call or ``reload`` asks.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from eksgateway.blocking import run_blocking
from eksgateway.clock import Clock
from eksgateway.errors import IdentityUnavailable
from eksgateway.identity.keys import KeySet, KeysUnusable, NoUsableKeys, read_key_set
from eksgateway.identity.sources import Source, SourceError
from eksgateway.logs import Log

log = Log(__name__)

FOLLOW_S: Final = 1.0
FIRST_PAUSE_S: Final = 1.0  # after a first fetch that failed; doubled up to the cool-down
# Calls that wait for a fetch though there are keys: most may be forged ones, which should not fill up what
# the gateway has for calls while an issuer is slow. Others are answered by the keys that there are.
MOST_WAITING: Final = 100


@dataclass(frozen=True, slots=True)
class Ages:
    """How long keys are believed, and how long apart fetches are; in seconds."""

    maximum_s: float
    cooldown_s: float


class IssuerKeys:
    """The keys of one issuer, by its short ``name``. ``had`` is whether there ever were any."""

    def __init__(self, name: str, source: Source, ages: Ages, clock: Clock) -> None:
        self.had = False
        self._name = name
        self._source = source
        self._ages = ages
        self._clock = clock
        self._keys: KeySet | None = None
        self._keys_time = 0.0  # monotonic: when the fetch that gave the keys began
        self._in_force = b""  # the document that gave the keys
        self._seen = b""  # the document that the last look found
        self._fault: tuple[str, bool] | None = None  # as logged
        self._fetch_time: float | None = None  # when the last fetch for a call began, of whatever outcome
        self._fetch: asyncio.Task[None] | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._demanded = False  # by a call, since the last look
        self._reloading = False  # asked for, and not begun yet
        self._waiting = 0

    def start(self) -> None:
        """Fetch now, and again until there are keys; follow what can be followed."""
        self._keeping = asyncio.create_task(self._keep(), name=f"jwks {self._name}, kept")

    def reload(self) -> None:
        """Fetch now, whatever the cool-down: a key that is not in the answer ends with it."""
        self._reloading = True
        if self._under_way() is None:  # else another follows it: it may have begun before the change
            self._begin()

    async def first(self) -> None:
        """Return when the first fetch has ended, of whatever outcome."""
        if (fetch := self._under_way()) is not None:
            await asyncio.wait([fetch])

    async def current(self) -> KeySet:
        """Keys not past their maximum age; the same object while they do not change.

        Raises IdentityUnavailable.
        """
        keys = self._believed()
        if keys is None:
            return await self.refreshed()
        if self._age() >= self._ages.maximum_s / 2:
            self._demand()  # not waited for: an issuer that is down has the other half to come back
        return keys

    async def refreshed(self) -> KeySet:
        """As ``current``, after a fetch if the cool-down permits one or one is under way."""
        fetch = self._demand()
        if fetch is not None and (self._believed() is None or self._waiting < MOST_WAITING):
            self._waiting += 1
            try:
                # wait() leaves the fetch running when this caller gives up: others wait for it too.
                await asyncio.wait([fetch])
            finally:
                self._waiting -= 1
        keys = self._believed()
        if keys is None:
            raise IdentityUnavailable(retry_after=self._cooldown_left(), detail=f"no keys of {self._name}")
        return keys

    async def close(self) -> None:
        """Stop fetching."""
        for task in (self._keeping, self._fetch):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])

    # -- When ------------------------------------------------------------------------------------

    async def _keep(self) -> None:
        pause = FIRST_PAUSE_S
        while True:
            await asyncio.wait([self._under_way() or self._begin()])
            if self._source.followed:
                await self._clock.sleep(FOLLOW_S)
            elif not self.had:
                await self._clock.sleep(pause)
                pause = min(2 * pause, self._ages.cooldown_s)
            else:
                return

    def _demand(self) -> asyncio.Task[None] | None:
        """The fetch under way, or a new one if the cool-down permits it."""
        if self._cooldown_left() <= 0:
            self._demanded = True
            self._fetch_time = self._clock.monotonic()
            return self._under_way() or self._begin()
        return self._under_way()

    def _under_way(self) -> asyncio.Task[None] | None:
        return self._fetch if self._fetch is not None and not self._fetch.done() else None

    def _begin(self) -> asyncio.Task[None]:
        if not self._source.followed:
            self._fetch_time = self._clock.monotonic()
        self._fetch = asyncio.create_task(self._load(), name=f"jwks {self._name}")
        return self._fetch

    def _age(self) -> float:
        return self._clock.monotonic() - self._keys_time

    def _believed(self) -> KeySet | None:
        return self._keys if self._age() < self._ages.maximum_s else None

    def _cooldown_left(self) -> float:
        if self._fetch_time is None:
            return 0.0
        return max(0.0, self._fetch_time + self._ages.cooldown_s - self._clock.monotonic())

    # -- What ------------------------------------------------------------------------------------

    async def _load(self) -> None:
        while True:
            reload, self._reloading = self._reloading, False
            began = self._clock.monotonic()
            try:
                await self._judge(await self._source.read(), began, reload=reload)
            except (SourceError, KeysUnusable) as exc:
                self._failed(str(exc))
            except Exception as exc:
                log.exception("identity.unexpected", issuer=self._name)
                self._failed(type(exc).__name__)
            if not self._reloading:
                return

    async def _judge(self, document: bytes, began: float, *, reload: bool) -> None:
        """Put in force what was read, if it is new and can be taken to be whole."""
        at_once, self._demanded = reload or self._demanded, False
        before, self._seen = self._seen, document
        if document != self._in_force or self._keys is None:
            if self._source.followed and self.had and not at_once and document != before:
                return  # perhaps half written: put in force when two looks find the same
            keys = await self._parsed(document, reload=reload)
            if keys != self._keys:
                log.info(
                    "identity.jwks_changed", issuer=self._name, keys=len(keys.keys), ignored=keys.ignored
                )
                self._keys = keys
            self._in_force = document
        elif self._fault is not None:
            log.info("identity.jwks_back", issuer=self._name)
        self._keys_time, self._fault = began, None
        self.had = True

    async def _parsed(self, document: bytes, *, reload: bool) -> KeySet:
        """The keys. Without any it is a fault, for no outage may look like a withdrawal, except where the
        operator's own word is plain: in a file, and at a reload.
        """
        try:
            return await run_blocking(read_key_set, document)
        except NoUsableKeys as exc:
            if not self.had or not (self._source.followed or reload):
                raise
            log.exception("identity.jwks_withdrawn", issuer=self._name, cause=str(exc))
            return KeySet(())

    def _failed(self, cause: str) -> None:
        kept = self._believed() is not None
        if self._fault != (cause, kept):  # a file is looked at every second
            self._fault = (cause, kept)
            log.warning("identity.jwks_failed", issuer=self._name, cause=cause, keys_kept=kept)
