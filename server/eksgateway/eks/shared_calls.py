"""Reads of EKS that several callers share, and a cache of their results."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Generic, Protocol, TypeVar

from cachetools import LRUCache

from eksgateway.clock import Clock
from eksgateway.eks.budget import Budget
from eksgateway.eks.target_budget import Lane, PendingCall
from eksgateway.errors import GatewayError, Overloaded, copy_error
from eksgateway.model import Target
from eksgateway.single_flight import SharedTask


class _Key(Hashable, Protocol):
    @property
    def target(self) -> Target: ...


K = TypeVar("K", bound=_Key)
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class ReadResult(Generic[V]):
    """The result of a call that began at ``time`` (UTC), which is ``began`` on the monotonic clock."""

    value: V
    time: datetime
    began: float


@dataclass(slots=True)
class _SharedCall(Generic[V]):
    """Waits for the previous call of its key, then for its turn."""

    pending: PendingCall
    previous: _SharedCall[V] | None
    began: float | None = None  # monotonic; None while it waits
    task: SharedTask[ReadResult[V]] = field(init=False)


class SharedCalls(Generic[K, V]):
    """The newest call and the latest result of each key. Calls of one key run one after the other."""

    def __init__(
        self, read: Callable[[K], Awaitable[V]], budget: Budget, clock: Clock, cache_size: int
    ) -> None:
        self._read = read
        self._budget = budget
        self._clock = clock
        self._cache: LRUCache[K, ReadResult[V]] = LRUCache(cache_size)
        self._newest: dict[K, _SharedCall[V]] = {}

    def find_cached(self, key: K) -> ReadResult[V] | None:
        return self._cache.get(key)

    async def get(self, key: K, max_age: float, lane: Lane, caller: Hashable) -> ReadResult[V]:
        """The result of a call that began less than ``max_age`` seconds ago: cached, joined, or new."""
        oldest = self._clock.monotonic() - max_age
        while True:
            cached = self.find_cached(key)
            if cached is not None and cached.began > oldest:
                return cached
            call = self._join(key, oldest, lane, caller)
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
        self._cache.pop(key, None)
        self._newest.pop(key, None)

    def _join(self, key: K, oldest: float, lane: Lane, caller: Hashable) -> _SharedCall[V]:
        newest = self._newest.get(key)
        if newest is not None and (newest.began is None or newest.began > oldest):
            if newest.began is None and lane is Lane.READ:
                self._budget.join(newest.pending, key.target, caller)
            return newest
        call = self._newest[key] = _SharedCall[V](PendingCall(lane, [caller]), previous=newest)
        call.task = SharedTask(
            self._run(key, call),
            forget=partial(self._remove, key, call),
            may_abandon=lambda: call.began is None,
        )
        return call

    async def _run(self, key: K, call: _SharedCall[V]) -> ReadResult[V]:
        if call.previous is not None:
            await call.previous.task.wait()
            call.previous = None
        result = await self._budget.call_pending(call.pending, key.target, partial(self._call, key, call))
        if self._newest.get(key) is call:  # neither followed by another call nor forgotten
            self._cache[key] = result
        return result

    async def _call(self, key: K, call: _SharedCall[V]) -> ReadResult[V]:
        time, call.began = self._clock.now(), self._clock.monotonic()
        return ReadResult(await self._read(key), time, call.began)

    def _remove(self, key: K, call: _SharedCall[V]) -> None:
        """Let no caller join ``call``. If it was abandoned, the previous call can be joined again."""
        if self._newest.get(key) is not call:
            return
        if call.previous is not None and not call.previous.task.done:
            self._newest[key] = call.previous
        else:
            del self._newest[key]
