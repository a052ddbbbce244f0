"""The promise, in its order: decide → record → forward → record.

A cancel is never sent to EKS unless the policy explicitly allowed that exact request and its
intent record is durably committed. If either fails, the call fails and nothing is sent.
A cancellation is only reported as cancelled after EKS reported it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from eksgateway import errors, phases
from eksgateway.clock import Clock, Deadline
from eksgateway.decisions import Decisions
from eksgateway.eks.arn import verify_arn
from eksgateway.eks.budgeted import BudgetedEks
from eksgateway.forwarding import Forwarder
from eksgateway.ledger.protocol import Ledger
from eksgateway.metrics import Metrics
from eksgateway.model import (
    Action,
    Caller,
    Cancellation,
    CancelRequest,
    ClusterFacts,
    Decision,
    Intent,
    Outcome,
    OutcomeKind,
    Phase,
    Update,
    UpdateRef,
)
from eksgateway.policy.question import Question

_CLOSING_RETRY_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class CancelCall:
    """One RPC that cancels, allowed at stage request. The intent needs ``other_actions`` allowed as well."""

    question: Question
    ref: UpdateRef
    request_id: str
    other_actions: tuple[Action, ...] = ()

    @property
    def caller(self) -> Caller:
        return self.question.caller

    @property
    def request(self) -> CancelRequest:
        return CancelRequest(self.ref, self.question.justification)


@dataclass(frozen=True, slots=True)
class _Allowed:
    """An allow at stage update, the facts that it was made on, and when. It holds before ``ends``."""

    decision: Decision
    cluster: ClusterFacts
    update: Update
    time: datetime
    ends: Deadline


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancellations:
    """Cancels updates. Times are in seconds; ``new_id`` draws cancellation ids and EKS tokens.

    ``follow`` gets each recorded cancellation and, if its update is CancelUpdate's own answer, the
    monotonic time at which that call began.
    """

    decisions: Decisions
    eks: BudgetedEks
    forwarder: Forwarder
    ledger: Ledger
    follow: Callable[[Cancellation, float | None], None]
    metrics: Metrics
    clock: Clock
    new_id: Callable[[], str]
    decision_max_age: float

    async def cancel(self, call: CancelCall, on_intent: Callable[[str], None]) -> Cancellation:
        """Cancel, or return the recorded result of the same request_id. Raises GatewayErrors.

        Calls ``on_intent`` with the cancellation id just before the intent is recorded: from then on this
        must run to its end.
        """
        earlier = await self.ledger.find(call.caller.id, call.request_id)
        if earlier is not None:
            if earlier.intent.request != call.request:
                raise errors.RequestIdReused(metadata={"request_id": call.request_id})
            if earlier.phase is not Phase.NOT_FORWARDED:
                return result_of(earlier)

        allowed = await self._decide(call)
        if allowed.update.final:
            raise errors.UpdateFinished(metadata={"status": allowed.update.status})
        intent = self._make_intent(call, allowed, earlier)
        on_intent(intent.cancellation_id)
        committed = await self._commit(intent, renew=earlier is not None)
        began = self.clock.monotonic()
        outcome = await self.forwarder.forward(committed, send_before=allowed.ends)
        return await self._record(committed, outcome, began)

    # -- Decide ---------------------------------------------------------------------------------

    async def _decide(self, call: CancelCall) -> _Allowed:
        """Require an explicit allow of this exact request, with the cluster and update as they are now."""
        cluster, update = await self._describe(call.ref, call.caller)
        time, ends = self.clock.now(), Deadline.after(self.clock, self.decision_max_age)
        question = replace(call.question, cluster=call.ref.cluster, time=time, facts=cluster, update=update)
        for action in call.other_actions:
            await self._require(replace(question, action=action), call)
        decision = await self._require(replace(question, action=Action.CANCEL), call)
        return _Allowed(decision, cluster, update, time, ends)

    async def _describe(self, ref: UpdateRef, caller: Caller) -> tuple[ClusterFacts, Update]:
        if not self.eks.serves(ref.cluster):
            raise errors.TargetNotConfigured
        cluster = verify_arn(await self.eks.describe_cluster(ref.cluster, on_behalf_of=caller), ref.cluster)
        update = await self.eks.describe_update(ref, on_behalf_of=caller)
        if update.id != ref.update_id:
            raise errors.TargetMismatch(detail=f"asked for {ref}, reached {update.id}")
        return cluster, update

    async def _require(self, question: Question, call: CancelCall) -> Decision:
        return await self.decisions.require(
            question, cancels=True, update_id=call.ref.update_id, request_id=call.request_id
        )

    # -- Record ---------------------------------------------------------------------------------

    def _make_intent(self, call: CancelCall, allowed: _Allowed, earlier: Cancellation | None) -> Intent:
        """A retry of an ``earlier`` cancellation that was not forwarded keeps its id and EKS token."""
        return Intent(
            cancellation_id=earlier.id if earlier else self.new_id(),
            request_id=call.request_id,
            caller=call.caller,
            request=call.request,
            update=allowed.update,
            cluster=allowed.cluster,
            decision=allowed.decision,
            token=earlier.intent.token if earlier else self.new_id(),
            time=self.clock.now(),
            method=call.question.method,
            decision_time=allowed.time,
        )

    async def _commit(self, intent: Intent, *, renew: bool) -> Cancellation:
        """Return once the intent is durable; nothing is sent before that."""
        if renew:
            return await self.ledger.renew_intent(intent)
        try:
            return await self.ledger.commit_intent(intent)
        except errors.RequestIdReused:
            earlier = await self.ledger.find(intent.caller.id, intent.request_id)
            if earlier is None or earlier.intent.request != intent.request:
                raise
            # The earlier attempt failed with LEDGER_UNAVAILABLE but was committed. The ledger is closing it.
            raise errors.LedgerUnavailable(
                "An earlier attempt with this request_id is still being closed; this one sent nothing.",
                retry_after=_CLOSING_RETRY_S,
            ) from None

    async def _record(self, committed: Cancellation, outcome: Outcome, began: float) -> Cancellation:
        """Record the outcome and return the result. The update is followed even if recording fails."""
        latest, poll_began = committed, None
        self.metrics.count_forward(outcome.kind)
        try:
            latest = await self.ledger.record_outcome(committed.id, outcome)
            if outcome.kind is OutcomeKind.ACCEPTED and outcome.update == latest.update:
                poll_began = began
        except errors.OutcomeUnrecorded as exc:
            exc.metadata["cancellation_id"] = committed.id
            raise
        finally:
            self.follow(latest, poll_began)
        return result_of(latest)


def result_of(cancellation: Cancellation) -> Cancellation:
    """Return a recorded cancellation, or raise its recorded error: a repeat gets what the first call got."""
    if cancellation.phase is Phase.OUTCOME_UNKNOWN:
        message = phases.NO_TRACE if cancellation.phase_reason == phases.NO_TRACE else ""
        raise outcome_unknown(cancellation.id, message)
    outcome = cancellation.outcome
    if outcome and outcome.error and outcome.kind in (OutcomeKind.REFUSED, OutcomeKind.NOT_FORWARDED):
        error = errors.replay(outcome.error)
        error.metadata |= {"cancellation_id": cancellation.id, "phase": cancellation.phase.value}
        raise error
    return cancellation


def outcome_unknown(cancellation_id: str, message: str = "") -> errors.OutcomeUnknown:
    """OUTCOME_UNKNOWN about a recorded cancellation."""
    return errors.OutcomeUnknown(
        message, metadata={"cancellation_id": cancellation_id, "phase": Phase.OUTCOME_UNKNOWN.value}
    )
