"""What is known of an update, how old that is, and when either is news."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from eksgateway.client.attempts import Timing
from eksgateway.v1 import update_service_pb2 as pb
from eksgateway.v1.cancellation_pb2 import CancellationPhase
from eksgateway.v1.update_pb2 import Update


@dataclass(frozen=True, slots=True)
class Knowledge:
    """An update as the gateway told it last, and how old that is.

    ``final``: it has ended. ``age_s``: how long ago the gateway last saw it in EKS, as far as the
    gateway's clock and this machine's agree. ``stale``: that is longer than one asked for. Before the
    first state ``update`` is empty and ``sequence`` 0.
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
        self._observed = 0  # the newest observe time, in nanoseconds of the gateway's clock,
        self._seen = timing.monotonic()  # and the moment here that it was

    @property
    def fresh_for(self) -> float:
        """Seconds until it becomes stale; infinite once it is."""
        return math.inf if self.known.stale else max(0.0, self._max_age - self._age)

    @property
    def _age(self) -> float:
        return self._timing.monotonic() - self._seen

    def take(self, message: pb.WatchUpdateResponse) -> bool:
        """Learn from a message; whether it brought news: a state, or an end of being stale."""
        observed = message.observe_time.ToNanoseconds()
        if observed > self._observed:  # else time goes on as this machine's monotonic clock says
            self._observed = observed
            self._seen = self._timing.monotonic() - max(0.0, self._timing.now() - observed / 1e9)
        was_stale, heartbeat = self.known.stale, message.kind == pb.WATCH_KIND_HEARTBEAT
        if not heartbeat or not self.known.sequence:  # a resumed stream may begin with a heartbeat
            self.known = Knowledge(
                message.update, message.phase, message.sequence, message.kind == pb.WATCH_KIND_FINAL
            )
        elif not was_stale:
            return False
        self.known = replace(self.known, age_s=self._age, stale=self._age >= self._max_age)
        return not heartbeat or not self.known.stale

    def expire(self) -> None:
        """Its time has come: it is stale."""
        age = max(self._age, self._max_age) if self.known.sequence else math.inf
        self.known = replace(self.known, age_s=age, stale=True)
