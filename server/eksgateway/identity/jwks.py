"""One issuer's keys over time: cached, fetched by one task at a time, and never lost to an outage early.

          first call                 half the maximum age            maximum age
    none ────────────▶ fresh (served) ────────────▶ fresh, and fetched behind the calls ────▶ none
                         ▲                                  │
                         └──────── a fetch succeeds ────────┘   a fetch that fails changes nothing

A fetch begins at most once in a cool-down, whatever asks for it: a first call, an age, an unknown
`kid`. So neither a flood of invented `kid`s nor an outage becomes a flood at the issuer.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from eksgateway.clock import Clock
from eksgateway.errors import IdentityUnavailable
from eksgateway.identity.keys import KeySet, KeysUnusable, read_key_set
from eksgateway.identity.sources import Source, SourceError
from eksgateway.logs import Log

_log = Log(__name__)


@dataclass(frozen=True, slots=True)
class Ages:
    """How long keys are believed, and how long apart fetches are; in seconds."""

    maximum_s: float
    cooldown_s: float


class IssuerKeys:
    """The keys of one issuer, by its short ``name``."""

    def __init__(self, name: str, source: Source, ages: Ages, clock: Clock) -> None:
        self._name = name
        self._source = source
        self._ages = ages
        self._clock = clock
        self._keys: KeySet | None = None
        self._keys_time = 0.0  # monotonic: when the fetch that gave the keys began
        self._fetch_time: float | None = None  # when the last fetch began, of whatever outcome
        self._fetch: asyncio.Task[None] | None = None

    async def current(self) -> KeySet:
        """Keys not past their maximum age; the same object while they do not change.

        Raises IdentityUnavailable.
        """
        keys = self._believed()
        if keys is None:
            return await self.refreshed()
        if self._age() >= self._ages.maximum_s / 2:
            self._begin()  # not waited for: an issuer that is down has the other half to come back
        return keys

    async def refreshed(self) -> KeySet:
        """As ``current``, after a fetch if the cool-down permits one or one is under way."""
        fetch = self._begin()
        if fetch is not None:
            # wait() leaves the fetch running when this caller gives up: others wait for it too.
            await asyncio.wait([fetch])
        keys = self._believed()
        if keys is None:
            raise IdentityUnavailable(retry_after=self._cooldown_left(), detail=f"no keys of {self._name}")
        return keys

    async def close(self) -> None:
        if self._fetch is not None:
            self._fetch.cancel()
            await asyncio.wait([self._fetch])
        await self._source.close()

    def _age(self) -> float:
        return self._clock.monotonic() - self._keys_time

    def _believed(self) -> KeySet | None:
        return self._keys if self._age() < self._ages.maximum_s else None

    def _begin(self) -> asyncio.Task[None] | None:
        if self._fetch is not None and not self._fetch.done():
            return self._fetch
        if self._cooldown_left() > 0:
            return None
        self._fetch_time = self._clock.monotonic()
        self._fetch = asyncio.create_task(self._load(self._fetch_time), name=f"jwks {self._name}")
        return self._fetch

    def _cooldown_left(self) -> float:
        if self._fetch_time is None:
            return 0.0
        return max(0.0, self._fetch_time + self._ages.cooldown_s - self._clock.monotonic())

    async def _load(self, began: float) -> None:
        try:
            keys = read_key_set(await self._source.read())
        except (SourceError, KeysUnusable) as exc:
            kept = self._believed() is not None
            _log.warning("identity.jwks_failed", issuer=self._name, cause=str(exc), keys_kept=kept)
            return
        self._keys_time = began
        if keys != self._keys:
            _log.info("identity.jwks_changed", issuer=self._name, keys=len(keys.keys), ignored=keys.ignored)
            self._keys = keys
