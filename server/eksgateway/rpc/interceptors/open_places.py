"""Places of the calls that may need no credentials: health and reflection."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from eksgateway.errors import Overloaded
from eksgateway.rpc.call import Call
from eksgateway.rpc.methods import Place


class OpenPlaces:
    """Each connection always has one place, so that no other can keep its client from gRPC's health checking.

    It has up to ``of_one`` of them while all together hold fewer than ``altogether``. The connections are
    bounded by the listener, and those of dead clients are ended by keepalive.
    """

    def __init__(self, *, of_one: int, altogether: int) -> None:
        self._of_one = of_one
        self._altogether = altogether
        self._held: Counter[str] = Counter()
        self._total = 0

    def hold(self, call: Call) -> None:
        """Hold a place of the call's connection; raises Overloaded."""
        held = self._held[call.peer]
        if held and (held >= self._of_one or self._total >= self._altogether):
            raise Overloaded
        self._held[call.peer] = held + 1
        self._total += 1
        call.holds.append(_Held(self, call.peer))

    def give(self, peer: str) -> None:
        """One place of a connection back."""
        self._total -= 1
        self._held[peer] -= 1
        if not self._held[peer]:
            del self._held[peer]


@dataclass(slots=True)
class _Held:
    """One call's place."""

    places: OpenPlaces
    peer: str

    def move(self, place: Place) -> None:
        """No such call becomes another kind of call."""
        raise AssertionError(place)

    def give(self) -> None:
        self.places.give(self.peer)
