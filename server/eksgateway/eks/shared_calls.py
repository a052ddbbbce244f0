"""Reads of EKS that several callers share, and a cache of their results."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, Protocol, TypeVar

from cachetools import LRUCache

from eksgateway.clock import Clock
from eksgateway.eks.budget import Budget, TurnUnused
from eksgateway.eks.looks import LocalLooks, Look, Looks
from eksgateway.eks.target_budget import Lane, PendingCall
from eksgateway.errors import EksRefused, GatewayError, Overloaded, copy_error
from eksgateway.model import Target
from eksgateway.single_flight import SharedTask


class _Key(Hashable, Protocol):
    @property
    def target(self) -> Target: ...


K = TypeVar("K", bound=_Key)
V = TypeVar("V")


@dataclass(slots=True)
class _SharedCall(Generic[V]):
    """Waits for the previous call of its key, then for another replica's look or for its turn.

    Its result began after ``oldest``, which rises with each caller that joins; a refusal began after
    ``refused_after`` too.
    """

    pending: PendingCall
    previous: _SharedCall[V] | None
    oldest: float
    refused_after: float
    began: float | None = None  # monotonic; None while it waits
    task: SharedTask[Look[V]] = field(init=False)


class SharedCalls(Generic[K, V]):
    """The newest call and the latest result of each key. Calls of one key run one after the other."""

    def __init__(
        self,
        read: Callable[[K], Awaitable[V]],
        budget: Budget,
        clock: Clock,
        cache_size: int,
        looks: Looks[K, V] | None = None,
    ) -> None:
        self._read = read
        self._budget = budget
        self._clock = clock
        self._cache: LRUCache[K, Look[V]] = LRUCache(cache_size)
        self._newest: dict[K, _SharedCall[V]] = {}
        self._looks: Looks[K, V] = looks or LocalLooks(clock)
        self._hearers: dict[K, Callable[[], None]] = {}
        self._looks.subscribe(self._hear)

    def find_cached(self, key: K) -> Look[V] | None:
        return self._cache.get(key)

    def subscribe(self, key: K, hear: Callable[[], None]) -> Callable[[], None]:
        """Call ``hear`` when another replica may have a newer result of ``key``, until the returned function
        is called. A key has one subscriber.
        """

        def unsubscribe() -> None:
            self._hearers.pop(key, None)

        self._hearers[key] = hear
        return unsubscribe

    async def find(self, key: K, oldest: float) -> Look[V] | None:
        """The newest result of any replica, if its call began after ``oldest``. Makes no call.

        Raises the EksRefused that EKS answered to the newest call.
        """
        look = await self._looks.find(key, oldest)
        cached = self.find_cached(key)
        if look is not None and (cached is None or cached.began < look.began):
            self._cache[key] = look
        return look

    async def get(
        self, key: K, max_age: float, lane: Lane, caller: Hashable, *, accepts_refusal: bool = False
    ) -> Look[V]:
        """The result of a call that began less than ``max_age`` seconds ago: cached, joined, or new.

        ``accepts_refusal``: EKS's refusal of another replica's call may be as old; else it began after now.
        """
        now = self._clock.monotonic()
        oldest = now - max_age
        while True:
            cached = self.find_cached(key)
            if cached is not None and cached.began > oldest:
                return cached
            call = self._join(key, oldest, oldest if accepts_refusal else now, lane, caller)
            await call.task.wait()
            try:
                return call.task.result()
            except Overloaded as error:
                # Only the read's turn timed out. A poller that joined it waits on: polls may wait longer.
                if lane is not Lane.POLL or call.pending.lane is Lane.POLL:
                    raise copy_error(error) from error
            except GatewayError as error:
                raise copy_error(error) from error

    def forget(self, key: K) -> None:
        """Drop the cached result. No caller joins the calls that exist now."""
        self._looks.forget(key)
        self._cache.pop(key, None)
        self._newest.pop(key, None)

    def _hear(self, key: K | None) -> None:
        if key is None:
            self._cache.clear()
            for hear in tuple(self._hearers.values()):
                hear()
            return
        self._cache.pop(key, None)
        hear_one = self._hearers.get(key)
        if hear_one is not None:
            hear_one()

    def _join(
        self, key: K, oldest: float, refused_after: float, lane: Lane, caller: Hashable
    ) -> _SharedCall[V]:
        newest = self._newest.get(key)
        if newest is not None and (newest.began is None or newest.began > oldest):
            if newest.began is None and lane is Lane.READ:
                self._budget.join(newest.pending, key.target, caller)
            newest.oldest = max(newest.oldest, oldest)
            newest.refused_after = max(newest.refused_after, refused_after)
            return newest
        call = self._newest[key] = _SharedCall[V](PendingCall(lane, [caller]), newest, oldest, refused_after)
        call.task = SharedTask(
            self._run(key, call),
            forget=partial(self._remove, key, call),
            may_abandon=lambda: call.began is None,
        )
        return call

    async def _run(self, key: K, call: _SharedCall[V]) -> Look[V]:
        if call.previous is not None:
            await call.previous.task.wait()
            call.previous = None
        look = None
        while look is None:
            look = await self._find_look(key, call) or await self._make_look(key, call)
        if self._newest.get(key) is call:  # neither followed by another call nor forgotten
            self._cache[key] = look
        return look

    async def _find_look(self, key: K, call: _SharedCall[V]) -> Look[V] | None:
        try:
            look = await self._looks.find(key, call.oldest)
        except EksRefused:
            if call.oldest >= call.refused_after:
                raise
            call.oldest = call.refused_after
            return None
        if look is None or look.began <= call.oldest:  # a caller that joined meanwhile wants a later one
            return None
        call.began = look.began
        return look

    async def _make_look(self, key: K, call: _SharedCall[V]) -> Look[V] | None:
        """None if another replica's look is to be found, or this one is void."""
        look = None
        with suppress(TurnUnused):
            look = await self._budget.call_pending(call.pending, key.target, partial(self._call, key, call))
        if look is None:
            call.began = None
        return look

    async def _call(self, key: K, call: _SharedCall[V]) -> Look[V] | None:
        call.began = self._clock.monotonic()  # from here on the call is not abandoned
        claim = await self._looks.claim(key, call.oldest)
        if claim is None:
            raise TurnUnused
        call.began = claim.began
        try:
            value = await self._read(key)
        except GatewayError as error:
            await self._looks.fail(key, claim, error)
            raise
        return await self._looks.report(key, claim, value)

    def _remove(self, key: K, call: _SharedCall[V]) -> None:
        """Let no caller join ``call``. If it was abandoned, the previous call can be joined again."""
        if self._newest.get(key) is not call:
            return
        if call.previous is not None and not call.previous.task.done:
            self._newest[key] = call.previous
        else:
            del self._newest[key]
