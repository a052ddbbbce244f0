"""Records the observations of one update in the ledger."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from eksgateway.errors import GatewayError, Internal
from eksgateway.ledger.protocol import CancellationSummary
from eksgateway.logs import Log
from eksgateway.model import Observation, UpdateRef

log = Log(__name__)

RecordObservation = Callable[[UpdateRef, Observation], Awaitable[CancellationSummary]]


@dataclass(eq=False)
class ObservationRecorder:
    """A record that fails is logged, once per reason, and does not fail the poller."""

    ref: UpdateRef
    record_observation: RecordObservation
    _logged_reason: str = ""

    async def record(self, observation: Observation) -> CancellationSummary | None:
        """Return what the ledger knows of the update then; None when the record failed."""
        try:
            known = await self.record_observation(self.ref, observation)
        except Exception as exc:  # noqa: BLE001 - the poller goes on, and tries again
            error = as_gateway_error(exc)
            if self._logged_reason != error.reason:
                log.warning(
                    "watch.record_failed", update=str(self.ref), reason=error.reason, detail=error.detail
                )
            self._logged_reason = error.reason
            return None
        self._logged_reason = ""
        return known


def as_gateway_error(exc: Exception) -> GatewayError:
    """Return the error itself; log any other exception as a bug and return Internal."""
    if isinstance(exc, GatewayError):
        return exc
    log.error("watch.unexpected", exc_info=exc)
    return Internal()
