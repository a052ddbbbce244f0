"""The calls received so far and the faults to inject next."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from eksgateway.simulator.specs import FaultSpec


@dataclass(frozen=True, slots=True)
class CallRecord:
    """A call as it was received. Members that the request lacks are None. ``time`` is real time."""

    operation: str  # EKS's name, or method and path of an unknown operation
    account_id: str
    region: str
    cluster: str | None
    update_id: str | None
    token: str | None
    access_key: str
    time: datetime


class FaultQueue:
    """Faults in the order they were added. Each is used by as many calls as its ``times``."""

    def __init__(self) -> None:
        self._left: list[tuple[FaultSpec, int]] = []

    def add(self, fault: FaultSpec) -> None:
        self._left.append((fault, fault.times))

    def take(self, operation: str) -> FaultSpec | None:
        """Use the first fault for this operation once."""
        for index, (fault, left) in enumerate(self._left):
            if fault.operation in ("*", operation):
                self._left[index : index + 1] = [(fault, left - 1)] if left > 1 else []
                return fault
        return None

    def clear(self) -> None:
        self._left.clear()
