"""What one update's poller tells the ledger; a failure is logged once, and is no failure of the poller."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from eksgateway.errors import GatewayError, Internal
from eksgateway.ledger.protocol import CancellationSummary
from eksgateway.logs import Log
from eksgateway.model import Observation, UpdateRef

log = Log(__name__)

Record = Callable[[UpdateRef, Observation], Awaitable[CancellationSummary]]


class Notes:
    """Writes observations of one update down."""

    def __init__(self, ref: UpdateRef, record: Record) -> None:
        self._ref = ref
        self._record = record
        self._failed_why = ""

    async def take(self, observation: Observation) -> CancellationSummary | None:
        """What the ledger knows with it, or None when it could not be written."""
        try:
            known = await self._record(self._ref, observation)
        except Exception as exc:  # noqa: BLE001 - whatever it is, EKS said it, and it is tried again
            error = as_gateway_error(exc)
            if self._failed_why != error.reason:
                log.warning(
                    "watch.record_failed", update=str(self._ref), reason=error.reason, detail=error.detail
                )
            self._failed_why = error.reason
            return None
        self._failed_why = ""
        return known


def as_gateway_error(exc: Exception) -> GatewayError:
    """The error itself, or Internal for a bug, which is logged."""
    if isinstance(exc, GatewayError):
        return exc
    log.error("watch.unexpected", exc_info=exc)
    return Internal()
