"""Keeps one issuer's keys: fetches them, caches them, and serves them through an outage.

          first fetch              half the maximum age              maximum age
    none ────────────▶ fresh ──────────────────────▶ fresh, refetched ───────────▶ none
                         ▲                                  │
                         └───────── a fetch succeeds ───────┘   a failed fetch changes nothing

Calls cause at most one fetch per cool-down, so neither forged tokens nor an outage floods the issuer.
Without calls, keys are fetched at the start until there are some, at a reload, and every second from a
source that is followed (a file). A changed file takes effect when two reads give the same content, or at
the first read if a call or a reload caused it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from eksgateway.blocking import run_blocking
from eksgateway.clock import Clock
from eksgateway.errors import IdentityUnavailable
from eksgateway.identity.jwk_set import KeySet, KeysUnusable, NoUsableKeys, read_key_set
from eksgateway.identity.jwks_sources import JwksSource, SourceError
from eksgateway.logs import Log
from eksgateway.settings import IssuerSettings, JwtSettings
from eksgateway.single_flight import SharedTask

log = Log(__name__)

FOLLOW_S: Final = 1.0
FIRST_BACKOFF_S: Final = 1.0  # after a failed first fetch; doubled up to the cool-down
# Calls that wait for a fetch while there are keys: forged ones must not use up the gateway's capacity while
# an issuer is slow. Further calls are checked with the keys that there are.
MAX_WAITING: Final = 100


@dataclass(eq=False)
class IssuerKeys:
    issuer: IssuerSettings
    source: JwksSource
    settings: JwtSettings
    clock: Clock

    def __post_init__(self) -> None:
        self.has_had_keys = False
        self._keys: KeySet | None = None
        self._keys_time = 0.0  # monotonic: start of the fetch that gave the keys
        self._document_in_force = b""
        self._last_document = b""
        self._logged_failure: tuple[str, bool] | None = None
        self._fetch_time: float | None = None  # start of the last fetch, for the cool-down
        self._fetch: SharedTask[None] | None = None
        self._follower: asyncio.Task[None] | None = None
        self._call_waits = False  # for the next read
        self._reload_pending = False

    def start(self) -> None:
        self._follower = asyncio.create_task(self._follow(), name=f"jwks {self.issuer.name}, follower")

    def reload(self) -> None:
        """Fetch now, whatever the cool-down."""
        self._reload_pending = True
        if self._running_fetch() is None:  # a running fetch may have begun before the change; it repeats
            self._start_fetch()

    async def wait_for_fetch(self) -> None:
        if (fetch := self._running_fetch()) is not None:
            await fetch.wait()

    async def get(self) -> KeySet:
        """The same object until the keys change. Raises IdentityUnavailable."""
        keys = self._current()
        if keys is None:
            return await self.refresh()
        if self._age() >= self.settings.jwks_max_age_s / 2:
            self._request_fetch()  # without waiting
        return keys

    async def refresh(self) -> KeySet:
        """As ``get``, after waiting for a fetch if one runs or the cool-down permits one."""
        fetch = self._request_fetch()
        if fetch is not None and (self._current() is None or fetch.waiting < MAX_WAITING):
            await fetch.wait()
        keys = self._current()
        if keys is None:
            detail = f"no keys of {self.issuer.name}"
            raise IdentityUnavailable(retry_after=self._cooldown_left(), detail=detail)
        return keys

    async def close(self) -> None:
        if self._follower is not None:
            self._follower.cancel()
            await asyncio.wait([self._follower])
        if self._fetch is not None:
            self._fetch.cancel()
            await self._fetch.wait()

    # -- Scheduling fetches ----------------------------------------------------------------------

    async def _follow(self) -> None:
        backoff = FIRST_BACKOFF_S
        while True:
            await (self._running_fetch() or self._start_fetch()).wait()
            if self.source.followed:
                await self.clock.sleep(FOLLOW_S)
            elif not self.has_had_keys:
                await self.clock.sleep(backoff)
                backoff = min(2 * backoff, self.settings.jwks_cooldown_s)
            else:
                return

    def _request_fetch(self) -> SharedTask[None] | None:
        """The running fetch, or a new one if the cool-down permits it."""
        if self._cooldown_left() <= 0:
            self._call_waits = True
            self._fetch_time = self.clock.monotonic()
            return self._running_fetch() or self._start_fetch()
        return self._running_fetch()

    def _running_fetch(self) -> SharedTask[None] | None:
        return self._fetch if self._fetch is not None and not self._fetch.done else None

    def _start_fetch(self) -> SharedTask[None]:
        if not self.source.followed:
            self._fetch_time = self.clock.monotonic()
        self._fetch = SharedTask(self._fetch_keys(), name=f"jwks {self.issuer.name}")
        return self._fetch

    def _age(self) -> float:
        return self.clock.monotonic() - self._keys_time

    def _current(self) -> KeySet | None:
        return self._keys if self._age() < self.settings.jwks_max_age_s else None

    def _cooldown_left(self) -> float:
        if self._fetch_time is None:
            return 0.0
        return max(0.0, self._fetch_time + self.settings.jwks_cooldown_s - self.clock.monotonic())

    # -- Applying a fetched document -------------------------------------------------------------

    async def _fetch_keys(self) -> None:
        while True:
            reload, self._reload_pending = self._reload_pending, False
            start = self.clock.monotonic()
            try:
                await self._apply(await self.source.read(), start, reload=reload)
            except (SourceError, KeysUnusable) as exc:
                self._log_failure(str(exc))
            except Exception as exc:
                log.exception("identity.unexpected", issuer=self.issuer.name)
                self._log_failure(type(exc).__name__)
            if not self._reload_pending:
                return

    async def _apply(self, document: bytes, start: float, *, reload: bool) -> None:
        at_once, self._call_waits = reload or self._call_waits, False
        previous, self._last_document = self._last_document, document
        if document != self._document_in_force or self._keys is None:
            if self.source.followed and self.has_had_keys and not at_once and document != previous:
                return  # it may be half written
            keys = await self._parse(document, reload=reload)
            if keys != self._keys:
                count, ignored = len(keys.keys), keys.ignored
                log.info("identity.jwks_changed", issuer=self.issuer.name, keys=count, ignored=ignored)
                self._keys = keys
            self._document_in_force = document
        elif self._logged_failure is not None:
            log.info("identity.jwks_back", issuer=self.issuer.name)
        self._keys_time, self._logged_failure = start, None
        self.has_had_keys = True

    async def _parse(self, document: bytes, *, reload: bool) -> KeySet:
        """A set without usable keys is the issuer's fault, and known keys stay. Where an operator acted (in
        a file, or with a reload) it withdraws all keys.
        """
        try:
            return await run_blocking(read_key_set, document)
        except NoUsableKeys as exc:
            if not self.has_had_keys or not (self.source.followed or reload):
                raise
            log.error("identity.jwks_withdrawn", issuer=self.issuer.name, cause=str(exc))  # noqa: TRY400
            return KeySet(())

    def _log_failure(self, cause: str) -> None:
        """Once: a file is read every second."""
        keys_kept = self._current() is not None
        if self._logged_failure != (cause, keys_kept):
            self._logged_failure = (cause, keys_kept)
            log.warning("identity.jwks_failed", issuer=self.issuer.name, cause=cause, keys_kept=keys_kept)
