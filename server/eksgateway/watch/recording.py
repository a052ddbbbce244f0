"""Records what polls of one update have found, and logs when that begins to fail."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from eksgateway.errors import GatewayError, Internal
from eksgateway.ledger.protocol import CancellationSummary
from eksgateway.logs import Log
from eksgateway.model import Observation, UpdateRef

log = Log(__name__)

RecordObservation: TypeAlias = Callable[[UpdateRef, Observation], Awaitable[CancellationSummary]]


class ObservationRecorder:
    """``record_observation`` is that of ``Ledger``."""

    def __init__(self, ref: UpdateRef, record_observation: RecordObservation) -> None:
        self._ref = ref
        self._record_observation = record_observation
        self._logged_reason = ""  # of the last record, if that failed

    async def record(self, observation: Observation) -> CancellationSummary | None:
        """None when it failed."""
        try:
            summary = await self._record_observation(self._ref, observation)
        except Exception as exc:  # noqa: BLE001 - the poller goes on, and tries again
            error = as_gateway_error(exc)
            if self._logged_reason != error.reason:
                log.warning(
                    "watch.record_failed", update=str(self._ref), reason=error.reason, detail=error.detail
                )
            self._logged_reason = error.reason
            return None
        self._logged_reason = ""
        return summary


def as_gateway_error(exc: Exception) -> GatewayError:
    """Internal, which is logged, for an error that is none of the gateway's."""
    if isinstance(exc, GatewayError):
        return exc
    log.error("watch.unexpected", exc_info=exc)
    return Internal()
