"""Forwards a recorded intent to EKS as one CancelUpdate, and turns the answer into an Outcome."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Final, TypeVar

from eksgateway import errors, phases
from eksgateway.clock import Clock, Deadline
from eksgateway.eks.budgeted import BudgetedEks
from eksgateway.logs import Log
from eksgateway.model import Cancellation, Intent, Outcome, OutcomeKind, Update

T = TypeVar("T")

log = Log(__name__)

_FIRST_PAUSE_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Forwarder:
    """Never raises: an error is an outcome too."""

    eks: BudgetedEks
    clock: Clock

    async def forward(self, committed: Cancellation, *, send_before: Deadline) -> Outcome:
        """Send the recorded intent with its recorded token, before ``send_before``."""
        intent = committed.intent
        if phases.is_cancelling(intent.update):
            return self._outcome(OutcomeKind.ALREADY_CANCELLING, update=intent.update)
        try:
            update = await self._send(committed, send_before)
        except errors.EksNoAnswer as exc:
            return self._outcome(OutcomeKind.UNKNOWN, error=exc)
        except errors.EksRefused as exc:
            return await self._interpret_refusal(intent, exc)
        except errors.GatewayError as exc:
            log.warning("cancellation.not_forwarded", cancellation_id=committed.id, detail=exc.detail)
            return self._outcome(OutcomeKind.NOT_FORWARDED, error=exc)
        except Exception:  # a bug, so the cancel may have been sent: polling settles it
            log.exception("cancellation.unexpected", cancellation_id=committed.id)
            return self._outcome(OutcomeKind.UNKNOWN, error=errors.OutcomeUnknown())
        return self._outcome(OutcomeKind.ACCEPTED, update=update)

    async def _send(self, committed: Cancellation, send_before: Deadline) -> Update:
        """Send one CancelUpdate. Retries with the same token only where EKS certainly did not act."""
        intent = committed.intent
        pause, throttled = _FIRST_PAUSE_S, None
        while True:
            try:
                return await self.eks.cancel_update(
                    intent.request.ref,
                    on_behalf_of=intent.caller,
                    token=intent.token,
                    send_before=send_before,
                )
            except errors.EksThrottled as exc:
                throttled = exc
            except errors.EksNotReached as exc:
                log.warning("eks.not_reached", cancellation_id=committed.id, detail=exc.detail)
            except errors.DecisionStale as exc:
                raise throttled or exc from None
            if self.clock.monotonic() + pause >= send_before.monotonic:
                raise throttled or errors.DecisionStale
            await self.clock.sleep(pause)
            pause *= 2

    async def _interpret_refusal(self, intent: Intent, refusal: errors.EksRefused) -> Outcome:
        """Another caller's cancel may be why EKS refused this one: then it counts as already cancelling.

        A cluster that is UPDATING means that the control plane has begun: too late.
        """
        ref, caller = intent.request.ref, intent.caller
        cluster = await _read_or_log(
            self.eks.describe_cluster(ref.cluster, on_behalf_of=caller),
            "cancellation.cluster_status_unknown",
            cluster=str(ref.cluster),
        )
        status = cluster.status if cluster else ""
        if status != "UPDATING" and isinstance(refusal, errors.FailedPrecondition):
            update = await _read_or_log(
                self.eks.describe_update(ref, on_behalf_of=caller),
                "cancellation.update_unknown",
                update=str(ref),
            )
            if update is not None and (phases.is_cancelling(update) or update.status == "Cancelled"):
                return self._outcome(OutcomeKind.ALREADY_CANCELLING, update=update, error=refusal)
        return self._outcome(OutcomeKind.REFUSED, error=refusal, cluster_status=status)

    def _outcome(
        self,
        kind: OutcomeKind,
        *,
        update: Update | None = None,
        error: errors.GatewayError | None = None,
        cluster_status: str = "",
    ) -> Outcome:
        record = errors.record(error) if error else None
        return Outcome(kind, self.clock.now(), update, record, cluster_status)


async def _read_or_log(read: Awaitable[T], event: str, **about: str) -> T | None:
    try:
        return await read
    except errors.GatewayError as exc:
        log.warning(event, **about, reason=exc.reason)
        return None
