"""What was called, in order, and what is to go wrong next; both are for tests and demonstrations."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import datetime

from eksgateway.simulator.specs import FaultSpec

KEPT = 100_000  # a sandbox may stay up for days: the oldest calls are forgotten


@dataclass(frozen=True, slots=True)
class CallRecord:
    """A call as it was received; what the request does not hold is None.

    ``operation`` is EKS's name of it, or method and path where EKS has none; ``time`` is real time.
    """

    operation: str
    account_id: str
    region: str
    cluster: str | None
    update_id: str | None
    token: str | None
    access_key: str
    time: datetime


class Calls:
    """Every call received, oldest first."""

    def __init__(self) -> None:
        self._calls: deque[CallRecord] = deque(maxlen=KEPT)

    def add(self, call: CallRecord) -> None:
        self._calls.append(call)

    def all(self) -> tuple[CallRecord, ...]:
        return tuple(self._calls)

    def clear(self) -> None:
        self._calls.clear()


class Faults:
    """Faults in the order they were set; each is used up by as many calls as it is for."""

    def __init__(self) -> None:
        self._left: list[tuple[FaultSpec, int]] = []

    def add(self, fault: FaultSpec) -> None:
        self._left.append((fault, fault.times))

    def take(self, operation: str) -> FaultSpec | None:
        """The fault for a call of this operation, now used up once."""
        for index, (fault, left) in enumerate(self._left):
            if fault.operation in ("*", operation):
                self._left[index : index + 1] = [(fault, left - 1)] if left > 1 else []
                return fault
        return None

    def clear(self) -> None:
        self._left.clear()
