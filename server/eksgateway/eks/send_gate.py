"""The gate that each cancel passes just before it is sent."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from eksgateway.clock import Clock, Deadline
from eksgateway.errors import DecisionStale


@dataclass(slots=True)
class Sending:
    """The time before which a cancel must leave, and whether it may have left."""

    before: Deadline
    sent: bool = False


class SendGate:
    """Checks the clocks just before a cancel's bytes leave: credentials, signing and connecting take time,
    and the process or the machine may have been frozen. Then other replicas count on it that nothing leaves.

    botocore passes on the error of a handler, unwrapped and without a retry. One thread makes the whole
    call, so the thread identifies the cancel.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._thread = threading.local()

    @contextmanager
    def open_until(self, before: Deadline) -> Iterator[Sending]:
        self._thread.sending = sending = Sending(before)
        try:
            yield sending
        finally:
            del self._thread.sending

    def check(self) -> None:
        """Called once the connection is open. Raises DecisionStale."""
        sending: Sending = self._thread.sending
        if sending.before.has_passed(self._clock):
            raise DecisionStale
        sending.sent = True
