"""The calls received so far and the faults to inject next, for tests and demonstrations."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from eksgateway.simulator.specs import FaultSpec

_MOST_CALLS: Final = 100_000  # a sandbox may run for days: the oldest calls are dropped


@dataclass(frozen=True, slots=True)
class CallRecord:
    """A call as it was received. Members that the request lacks are None.

    ``operation`` is EKS's name, or method and path of an unknown operation. ``time`` is real time.
    """

    operation: str
    account_id: str
    region: str
    cluster: str | None
    update_id: str | None
    token: str | None
    access_key: str
    time: datetime


class CallLog:
    """The calls received, oldest first."""

    def __init__(self) -> None:
        self._calls: deque[CallRecord] = deque(maxlen=_MOST_CALLS)

    def add(self, call: CallRecord) -> None:
        self._calls.append(call)

    def all(self) -> tuple[CallRecord, ...]:
        return tuple(self._calls)

    def clear(self) -> None:
        self._calls.clear()


class FaultQueue:
    """Faults in the order they were added. Each is used by as many calls as its ``times``."""

    def __init__(self) -> None:
        self._left: list[tuple[FaultSpec, int]] = []

    def add(self, fault: FaultSpec) -> None:
        self._left.append((fault, fault.times))

    def take(self, operation: str) -> FaultSpec | None:
        """The fault for a call of this operation, if any; it is used once by this."""
        for index, (fault, left) in enumerate(self._left):
            if fault.operation in ("*", operation):
                self._left[index : index + 1] = [(fault, left - 1)] if left > 1 else []
                return fault
        return None

    def clear(self) -> None:
        self._left.clear()
