"""A line in which keys take turns, so that no crowd under one key holds up another."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Hashable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """A call's place in a line. ``come`` tells whether the turn came before ``until`` (monotonic).

    It may stand under several keys, those of all who wait for the call: the first turn of any is the call's.
    """

    come: asyncio.Future[bool]
    until: float


class Line:
    """Calls that wait: the key whose turn is longest ago first, and under one key first come, first served.

    The keys are callers, so that none can hold more than its share of the turns while others want them.
    """

    def __init__(self) -> None:
        self._places: OrderedDict[Hashable, deque[Place]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._places)

    def turns_until(self, key: Hashable) -> int:
        """How many turns it takes, at most, until a call that comes now under a key has had one."""
        mine = len(self._places.get(key, ())) + 1
        return mine + sum(min(len(each), mine) for other, each in self._places.items() if other != key)

    def add(self, key: Hashable, place: Place) -> None:
        places = self._places.setdefault(key, deque())
        if place not in places:
            places.append(place)

    def leave(self, key: Hashable, place: Place) -> None:
        """The call waits no longer under this key, served or not."""
        places = self._places.get(key)
        if places is not None and place in places:
            places.remove(place)
            if not places:
                del self._places[key]

    def waits(self, now: float) -> bool:
        """Whether anybody can be served, once those whose time is over have been sent away."""
        while self._places:
            key, places = next(iter(self._places.items()))
            while places and (places[0].come.done() or places[0].until <= now):
                place = places.popleft()
                if not place.come.done():
                    place.come.set_result(False)
            if places:
                return True
            del self._places[key]
        return False

    def serve(self) -> None:
        """It is the turn of the first. ``waits`` was true just now."""
        key, places = self._places.popitem(last=False)
        places.popleft().come.set_result(True)
        if places:
            self._places[key] = places

    def close(self, error: type[Exception]) -> None:
        """End everybody's waiting with an error of their own."""
        for places in self._places.values():
            for place in places:
                if not place.come.done():
                    place.come.set_exception(error())
