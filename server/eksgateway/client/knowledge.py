"""What is known of an update, how old that is, and when either is news."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from eksgateway.client.retries import Timing
from eksgateway.v1 import update_service_pb2 as pb
from eksgateway.v1.cancellation_pb2 import CancellationPhase
from eksgateway.v1.update_pb2 import Update

_STATES = (pb.WATCH_KIND_SNAPSHOT, pb.WATCH_KIND_CHANGE, pb.WATCH_KIND_FINAL)


@dataclass(frozen=True, slots=True)
class Knowledge:
    """An update as the gateway sent it last, and how old that is.

    ``final``: it has ended. ``phase`` may be a number that this version has no name for. ``age_s``: how
    long ago the gateway last saw it in EKS; of this machine's clocks only the monotonic one counts.
    ``stale``: that is longer than one asked for. Before the first state ``update`` is empty and
    ``sequence`` 0.
    """

    update: Update = field(default_factory=Update)
    phase: CancellationPhase.ValueType = CancellationPhase.CANCELLATION_PHASE_UNSPECIFIED
    sequence: int = 0
    final: bool = False
    age_s: float = math.inf
    stale: bool = False


class View:
    """Keeps the knowledge of one line of streams. ``max_age`` is in seconds."""

    def __init__(self, max_age: float, timing: Timing) -> None:
        self.known = Knowledge()
        self._max_age = max_age
        self._timing = timing
        self._observed = 0  # the newest observe time, in nanoseconds of the gateway's clock
        self._seen = timing.monotonic()  # when EKS was last seen, by this machine's monotonic clock

    @property
    def fresh_for(self) -> float:
        """Seconds until it becomes stale; infinite once it is."""
        return math.inf if self.known.stale else max(0.0, self._max_age - self._age)

    @property
    def _age(self) -> float:
        return self._timing.monotonic() - self._seen

    def take(self, message: pb.WatchUpdateResponse) -> bool:
        """Learn from a message; whether it brought news: a state, or an end of being stale."""
        self._look_at_age(message)
        # A kind that this version does not know repeats a state, as a heartbeat does, or brings another one.
        known_state = message.kind not in _STATES and message.sequence == self.known.sequence
        was_stale = self.known.stale
        if not known_state or not self.known.sequence:  # a resumed stream may begin with a heartbeat
            self.known = Knowledge(
                message.update, message.phase, message.sequence, message.kind == pb.WATCH_KIND_FINAL
            )
        elif not was_stale:
            return False
        self.known = replace(self.known, age_s=self._age, stale=self._age >= self._max_age)
        return not known_state or not self.known.stale

    def _look_at_age(self, message: pb.WatchUpdateResponse) -> None:
        """Move the moment at which EKS was last seen, never back. A gateway of version 0.1 sends no age,
        which is guessed from both wall clocks then.
        """
        observed = message.observe_time.ToNanoseconds()
        if message.HasField("age"):
            age = message.age.seconds + message.age.nanos / 1e9
        elif observed > self._observed:
            age = self._timing.now() - observed / 1e9
        else:
            return
        self._observed = max(self._observed, observed)
        seen = self._timing.monotonic() - max(0.0, age)
        self._seen = max(self._seen, seen) if self.known.sequence else seen

    def expire(self) -> None:
        """Its time has come: it is stale."""
        age = max(self._age, self._max_age) if self.known.sequence else math.inf
        self.known = replace(self.known, age_s=age, stale=True)
