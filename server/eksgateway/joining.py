"""Joins a cancel that another replica is forwarding: its result is read from the ledger, nothing is sent."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from eksgateway import errors
from eksgateway.clock import Clock, wait_for
from eksgateway.ledger.cancellation_notices import CancellationNotices
from eksgateway.ledger.protocol import Ledger, Recorded
from eksgateway.model import Cancellation

_READ_S: Final = 0.5  # between two reads without a notice


@dataclass(frozen=True, slots=True)
class Joining:
    ledger: Ledger
    notices: CancellationNotices
    clock: Clock

    async def find(self, cancellation_id: str, seconds: float) -> Recorded | None:
        """A cancellation that exists. None if the ledger cannot be read for so long, or has lost it."""
        ends = self.clock.monotonic() + seconds
        while (left := ends - self.clock.monotonic()) > 0:
            with suppress(errors.LedgerUnavailable):
                for found in await self.ledger.read([cancellation_id]):
                    return found
            await self.clock.sleep(min(_READ_S, left))
        return None

    async def wait(self, found: Recorded) -> Cancellation:
        """Wait for the outcome while the cancellation may be in flight.

        Without an outcome the replica died, is frozen, or cannot write. It sends nothing later, and no other
        replica does. While the ledger cannot be read, or has lost the record, this waits on: the cancel may
        have been sent.
        """
        cancellation_id = found.cancellation.id
        ends = self.clock.monotonic() + found.in_flight_s
        with self.notices.changes_of(cancellation_id) as changed:
            while found.in_flight_s > 0 and (left := ends - self.clock.monotonic()) > 0:
                await wait_for(changed, self.clock, min(_READ_S, left))
                changed.clear()
                with suppress(errors.LedgerUnavailable):
                    for each in await self.ledger.read([cancellation_id]):
                        found, ends = each, self.clock.monotonic() + each.in_flight_s  # perhaps renewed
        return found.cancellation
