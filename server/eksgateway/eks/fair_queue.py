"""A queue in which keys take turns, so that many calls under one key do not delay another key's."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Hashable
from dataclasses import dataclass
from itertools import chain, islice


@dataclass(frozen=True, slots=True, eq=False)
class QueuedCall:
    """``admitted`` resolves to whether the call's turn came before ``until`` (monotonic).

    A call can be queued under several keys. It is served at the first turn of any of them. An entry may
    stand for several ``calls`` that are made at once.
    """

    admitted: asyncio.Future[bool]
    until: float
    calls: int = 1


class FairQueue:
    """Serves the key whose last turn is longest ago; calls under one key in order of arrival."""

    def __init__(self) -> None:
        self._calls: OrderedDict[Hashable, deque[QueuedCall]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._calls)

    def __len__(self) -> int:
        """The number of keys that wait."""
        return len(self._calls)

    def calls_until(self, key: Hashable, calls: int) -> int:
        """The most calls, its own included, until ``calls`` that are added now under ``key`` are made."""
        mine = self._calls.get(key, ())
        turns = len(mine) + 1
        others = (islice(each, turns) for other, each in self._calls.items() if other != key)
        return calls + sum(each.calls for each in chain(mine, *others))

    def count_heads(self) -> int:
        """The number of calls that wait at the head of a key's line."""
        return sum(calls[0].calls for calls in self._calls.values())

    def add(self, key: Hashable, call: QueuedCall) -> None:
        calls = self._calls.setdefault(key, deque())
        if call not in calls:
            calls.append(call)

    def remove(self, key: Hashable, call: QueuedCall) -> None:
        calls = self._calls.get(key)
        if calls is not None and call in calls:
            calls.remove(call)
            if not calls:
                del self._calls[key]

    def has_waiting(self, now: float) -> bool:
        """Remove calls that are late, and return whether one can be served."""
        while self._calls:
            key, calls = next(iter(self._calls.items()))
            while calls and (calls[0].admitted.done() or calls[0].until <= now):
                call = calls.popleft()
                if not call.admitted.done():
                    call.admitted.set_result(False)
            if calls:
                return True
            del self._calls[key]
        return False

    def count_first(self) -> int:
        """The number of calls that ``serve`` admits. ``has_waiting`` must just have returned true."""
        return next(iter(self._calls.values()))[0].calls

    def serve(self) -> None:
        """Admit the first entry. ``has_waiting`` must just have returned true."""
        key, calls = self._calls.popitem(last=False)
        calls.popleft().admitted.set_result(True)
        if calls:
            self._calls[key] = calls

    def close(self, error: type[Exception]) -> None:
        for calls in self._calls.values():
            for call in calls:
                if not call.admitted.done():
                    call.admitted.set_exception(error())
