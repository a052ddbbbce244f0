"""The latest known state of a watched update, and its age."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Final

from eksgateway.client.retries import Timing
from eksgateway.v1 import update_service_pb2 as pb
from eksgateway.v1.cancellation_pb2 import CancellationPhase
from eksgateway.v1.update_pb2 import Update

_STATES: Final = (pb.WATCH_KIND_SNAPSHOT, pb.WATCH_KIND_CHANGE, pb.WATCH_KIND_FINAL)


@dataclass(frozen=True, slots=True)
class Knowledge:
    """The latest state of an update from the gateway. Before the first one ``sequence`` is 0.

    ``phase`` may be a number that this version has no name for. ``age_s`` is the time since the gateway read
    the update from EKS. ``stale``: it is older than ``max_age``. ``message`` is the latest from the gateway.
    """

    update: Update = field(default_factory=Update)
    phase: CancellationPhase.ValueType = CancellationPhase.CANCELLATION_PHASE_UNSPECIFIED
    sequence: int = 0
    final: bool = False
    age_s: float = math.inf
    stale: bool = False
    message: pb.WatchUpdateResponse = field(default_factory=pb.WatchUpdateResponse, compare=False, repr=False)


class KnowledgeTracker:
    def __init__(self, max_age: float, timing: Timing) -> None:
        self.knowledge = Knowledge()
        self._max_age = max_age
        self._timing = timing
        self._observe_time = 0  # the newest, in nanoseconds of the gateway's clock
        self._read_time = timing.monotonic()  # of EKS, by this machine's clock

    @property
    def fresh_for(self) -> float:
        """Seconds until the knowledge is stale; infinite once it is."""
        return math.inf if self.knowledge.stale else max(0.0, self._max_age - self._age)

    @property
    def _age(self) -> float:
        return self._timing.monotonic() - self._read_time

    def apply(self, message: pb.WatchUpdateResponse) -> bool:
        """Returns whether the state is new or no longer stale."""
        self._update_age(message)
        # An unknown kind with the same sequence repeats the state, as a heartbeat does.
        is_repeated = message.kind not in _STATES and message.sequence == self.knowledge.sequence
        was_stale = self.knowledge.stale
        if not is_repeated or not self.knowledge.sequence:  # a resumed stream may begin with a heartbeat
            self.knowledge = Knowledge(
                message.update, message.phase, message.sequence, message.kind == pb.WATCH_KIND_FINAL
            )
        elif not was_stale:
            self.knowledge = replace(self.knowledge, age_s=self._age, message=message)
            return False
        age, stale = self._age, self._age >= self._max_age
        self.knowledge = replace(self.knowledge, age_s=age, stale=stale, message=message)
        return not is_repeated or not self.knowledge.stale

    def _update_age(self, message: pb.WatchUpdateResponse) -> None:
        """Without an age (a gateway of version 0.1) estimate it by both wall clocks."""
        observe_time = message.observe_time.ToNanoseconds()
        if message.HasField("age"):
            age = message.age.seconds + message.age.nanos / 1e9
        elif observe_time > self._observe_time:
            age = self._timing.now() - observe_time / 1e9
        else:
            return
        self._observe_time = max(self._observe_time, observe_time)
        read_time = self._timing.monotonic() - max(0.0, age)
        self._read_time = max(self._read_time, read_time) if self.knowledge.sequence else read_time

    def mark_stale(self) -> None:
        age = max(self._age, self._max_age) if self.knowledge.sequence else math.inf
        self.knowledge = replace(self.knowledge, age_s=age, stale=True)
