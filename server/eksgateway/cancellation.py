"""The one flow: decide → record → forward → record. It reads like the promise.

A cancel is never sent to EKS unless the policy explicitly allowed that exact request and its
intent record is durably committed. If either cannot be established, the call fails and nothing
is sent. "Cancelled" is only ever said after EKS said it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime

from eksgateway import errors, phases
from eksgateway.clock import Clock
from eksgateway.decisions import Decisions
from eksgateway.eks.arn import verify_arn
from eksgateway.eks.budgeted import BudgetedEks
from eksgateway.ledger.protocol import Ledger
from eksgateway.logs import Log
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

log = Log(__name__)

_FIRST_PAUSE_S = 0.2
_RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class CancelCall:
    """One call's cancel, allowed at stage request. ``also`` are actions that the intent needs allowed too."""

    question: Question
    ref: UpdateRef
    request_id: str
    also: tuple[Action, ...] = ()

    @property
    def caller(self) -> Caller:
        return self.question.caller

    @property
    def request(self) -> CancelRequest:
        return CancelRequest(self.ref, self.question.justification)

    def demands_as(self, other: CancelCall) -> bool:
        """Whether both ask for the same, with the same credentials."""
        question = replace(self.question, decision_id=other.question.decision_id, time=other.question.time)
        return replace(self, question=question) == other


@dataclass(slots=True)
class _Flight:
    """One (caller, request_id) under way, however many calls ask for it.

    Until ``intent_id`` is set it may be abandoned; afterwards it is finished, whoever is gone.
    """

    asked: CancelCall
    task: asyncio.Task[Cancellation] = field(init=False)
    waiting: int = 0
    intent_id: str = ""

    def speaks_for(self, asked: CancelCall) -> bool:
        """Whether its end is this call's too. A leader that failed before the intent, and asked with
        other credentials or for more, does not speak for those who joined: one of them takes over.
        """
        if self.intent_id or self.task.exception() is None:
            return True
        return self.asked.demands_as(asked)


class Cancellations:
    """Cancels updates. Times are in seconds; ``new_id`` draws cancellation ids and tokens.

    ``follow`` gets a cancellation and, if its update is what CancelUpdate answered just now, when that
    call began (monotonic).
    """

    def __init__(  # noqa: PLR0913  the flow's parts, each used once
        self,
        *,
        decisions: Decisions,
        eks: BudgetedEks,
        ledger: Ledger,
        follow: Callable[[Cancellation, float | None], None],
        metrics: Metrics,
        clock: Clock,
        new_id: Callable[[], str],
        decision_max_age: float,
        call_timeout: float,
    ) -> None:
        self._decisions = decisions
        self._eks = eks
        self._ledger = ledger
        self._follow = follow
        self._metrics = metrics
        self._clock = clock
        self._new_id = new_id
        self._decision_max_age = decision_max_age
        self._call_timeout = call_timeout
        self._flights: dict[tuple[str, str], _Flight] = {}

    async def cancel(self, asked: CancelCall) -> Cancellation:
        """Cancel, or join or repeat the same request. Raises GatewayError leaves as api.md's table says."""
        deadline = self._clock.monotonic() + self._call_timeout
        key = (asked.caller.id, asked.request_id)
        while True:
            flight = self._flights.get(key)
            if flight is None:
                flight = self._take_off(key, asked)
            elif flight.asked.request != asked.request:
                raise _reused(asked)
            await self._wait(key, flight, deadline)
            if flight.task.cancelled():  # by ``finish``
                raise _unknown(flight.intent_id) if flight.intent_id else errors.Draining
            if flight.speaks_for(asked):
                return flight.task.result()

    async def take_up(self) -> None:
        """After a start: follow every cancellation that is not settled. Nothing is ever sent again."""
        for cancellation in await self._ledger.pending():
            self._follow(cancellation, None)

    async def finish(self, grace: float) -> None:
        """Give what is under way this many seconds; a forward still open after that is OUTCOME_UNKNOWN."""
        tasks = [flight.task for flight in self._flights.values()]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=grace)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    # -- One flight, shared by all calls with its request_id ------------------------------------

    def _take_off(self, key: tuple[str, str], asked: CancelCall) -> _Flight:
        flight = _Flight(asked)
        flight.task = asyncio.create_task(self._fly(flight))
        self._flights[key] = flight

        def landed(task: asyncio.Task[Cancellation]) -> None:
            self._forget(key, flight)
            if not task.cancelled():
                task.exception()  # told to those who wait; nobody may be left

        flight.task.add_done_callback(landed)
        return flight

    async def _wait(self, key: tuple[str, str], flight: _Flight, deadline: float) -> None:
        flight.waiting += 1
        try:
            left = max(0.0, deadline - self._clock.monotonic())
            done, _ = await asyncio.wait({flight.task}, timeout=left)
            if not done and flight.intent_id:
                raise _unknown(flight.intent_id)
            if not done:
                raise errors.EksUnavailable("EKS did not answer in the time a call has.")
        finally:
            flight.waiting -= 1
            if not flight.waiting and not flight.intent_id:
                flight.task.cancel()  # every client is gone and nothing was recorded
                self._forget(key, flight)  # whoever comes now begins anew

    def _forget(self, key: tuple[str, str], flight: _Flight) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]

    async def _fly(self, flight: _Flight) -> Cancellation:
        asked = flight.asked
        kept = await self._ledger.find(asked.caller.id, asked.request_id)
        if kept is not None:
            if kept.intent.request != asked.request:
                raise _reused(asked)
            if kept.phase is not Phase.NOT_FORWARDED:
                return recorded_result(kept)

        cluster, update = await self._look(asked)
        now, decided_at = self._clock.now(), self._clock.monotonic()
        decision = await self._decide(asked, cluster, update, now)
        if update.final:
            raise errors.UpdateFinished(metadata={"status": update.status})

        intent = self._intent(asked, cluster, update, decision, decided=now, kept=kept)
        flight.intent_id = intent.cancellation_id
        committed = await self._commit(intent, kept)
        begun = self._clock.monotonic()
        outcome = await self._forward(committed, send_before=decided_at + self._decision_max_age)
        return await self._record(committed, outcome, begun)

    # -- Decide ---------------------------------------------------------------------------------

    async def _look(self, asked: CancelCall) -> tuple[ClusterFacts, Update]:
        """The cluster and the update as they are now, and certainly those that were decided."""
        ref = asked.ref
        if not self._eks.serves(ref.cluster):
            raise errors.TargetNotConfigured
        who = asked.caller
        cluster = verify_arn(await self._eks.describe_cluster(ref.cluster, on_behalf_of=who), ref.cluster)
        update = await self._eks.describe_update(ref, on_behalf_of=who)
        if update.id != ref.update_id:
            raise errors.TargetMismatch(detail=f"decided {ref}, reached {update.id}")
        return cluster, update

    async def _decide(
        self, asked: CancelCall, cluster: ClusterFacts, update: Update, now: datetime
    ) -> Decision:
        """The policy's explicit yes to this exact request, with live facts."""
        question = replace(asked.question, cluster=asked.ref.cluster, time=now, facts=cluster, update=update)
        for action in asked.also:
            await self._require(replace(question, action=action), asked)
        return await self._require(question, asked)

    async def _require(self, question: Question, asked: CancelCall) -> Decision:
        update_id = asked.ref.update_id
        return await self._decisions.require(
            question, cancels=True, update_id=update_id, request_id=asked.request_id
        )

    # -- Record ---------------------------------------------------------------------------------

    def _intent(  # noqa: PLR0913  each is a part of it
        self,
        asked: CancelCall,
        cluster: ClusterFacts,
        update: Update,
        decision: Decision,
        *,
        decided: datetime,
        kept: Cancellation | None,
    ) -> Intent:
        return Intent(
            cancellation_id=kept.id if kept else self._new_id(),
            request_id=asked.request_id,
            caller=asked.caller,
            request=asked.request,
            update=update,
            cluster=cluster,
            decision=decision,
            token=kept.intent.token if kept else self._new_id(),
            time=self._clock.now(),
            method=asked.question.method,
            decision_time=decided,
        )

    async def _commit(self, intent: Intent, kept: Cancellation | None) -> Cancellation:
        """Durable when this returns; nothing is sent before it does."""
        if kept is not None:
            return await self._ledger.renew_intent(intent)
        try:
            return await self._ledger.commit_intent(intent)
        except errors.RequestIdReused:
            earlier = await self._ledger.find(intent.caller.id, intent.request_id)
            if earlier is None or earlier.intent.request != intent.request:
                raise
            # It was told LEDGER_UNAVAILABLE, committed all the same, and is being closed.
            raise errors.LedgerUnavailable(
                "An earlier attempt with this request_id is still being closed; this one sent nothing.",
                retry_after=_RETRY_S,
            ) from None

    async def _record(self, committed: Cancellation, outcome: Outcome, begun: float) -> Cancellation:
        """The outcome, recorded and told; the update is followed to its end whatever comes of that."""
        latest, answered = committed, None
        self._metrics.count_forward(outcome.kind)
        try:
            latest = await self._ledger.record_outcome(committed.id, outcome)
            if outcome.kind is OutcomeKind.ACCEPTED and outcome.update == latest.update:
                answered = begun
        except errors.OutcomeUnrecorded as exc:
            exc.metadata["cancellation_id"] = committed.id
            raise
        finally:
            self._follow(latest, answered)
        return recorded_result(latest)

    # -- Forward --------------------------------------------------------------------------------

    async def _forward(self, committed: Cancellation, *, send_before: float) -> Outcome:
        """Send the recorded intent to EKS, with its recorded token, and say what became of it."""
        intent = committed.intent
        if phases.is_cancelling(intent.update):
            return self._outcome(OutcomeKind.ALREADY_CANCELLING, update=intent.update)
        try:
            update = await self._send(committed, send_before)
        except errors.EksNoAnswer as exc:
            return self._outcome(OutcomeKind.UNKNOWN, error=exc)
        except errors.EksRefused as exc:
            return await self._refused(intent, exc)
        except errors.GatewayError as exc:
            log.warning("cancellation.not_forwarded", cancellation_id=committed.id, detail=exc.detail)
            return self._outcome(OutcomeKind.NOT_FORWARDED, error=exc)
        except Exception:  # a bug: whether anything was sent is then for DescribeUpdate to show
            log.exception("cancellation.unexpected", cancellation_id=committed.id)
            return self._outcome(OutcomeKind.UNKNOWN, error=errors.OutcomeUnknown())
        return self._outcome(OutcomeKind.ACCEPTED, update=update)

    async def _send(self, committed: Cancellation, send_before: float) -> Update:
        """One call on the wire; again, with the same token, only where EKS certainly did not act."""
        intent = committed.intent
        pause, throttled = _FIRST_PAUSE_S, None
        while True:
            try:
                return await self._eks.cancel_update(
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
            if self._clock.monotonic() + pause >= send_before:
                raise throttled or errors.DecisionStale
            await self._clock.sleep(pause)
            pause *= 2

    async def _refused(self, intent: Intent, refusal: errors.EksRefused) -> Outcome:
        """What EKS's no means, by how cluster and update are after it: another caller's cancel may have come
        first, and then EKS is at what this one asks for, or has done it.
        """
        status = await self._cluster_status(intent)
        if status != "UPDATING" and isinstance(refusal, errors.FailedPrecondition):
            update = await self._update_now(intent)
            if update is not None and (phases.is_cancelling(update) or update.status == "Cancelled"):
                return self._outcome(OutcomeKind.ALREADY_CANCELLING, update=update, error=refusal)
        return self._outcome(OutcomeKind.REFUSED, error=refusal, cluster_status=status)

    async def _update_now(self, intent: Intent) -> Update | None:
        try:
            return await self._eks.describe_update(intent.request.ref, on_behalf_of=intent.caller)
        except errors.GatewayError as exc:
            log.warning("cancellation.update_unknown", update=str(intent.request.ref), reason=exc.reason)
            return None

    async def _cluster_status(self, intent: Intent) -> str:
        """Whether the control plane has begun (UPDATING); unknown when EKS does not say."""
        cluster = intent.request.ref.cluster
        try:
            return (await self._eks.describe_cluster(cluster, on_behalf_of=intent.caller)).status
        except errors.GatewayError as exc:
            log.warning("cancellation.cluster_status_unknown", cluster=str(cluster), reason=exc.reason)
            return ""

    def _outcome(
        self,
        kind: OutcomeKind,
        *,
        update: Update | None = None,
        error: errors.GatewayError | None = None,
        cluster_status: str = "",
    ) -> Outcome:
        kept = errors.record(error) if error else None
        return Outcome(kind, self._clock.now(), update, kept, cluster_status)


def recorded_result(cancellation: Cancellation) -> Cancellation:
    """What a caller is told of a recorded cancellation, now or on a repeat: itself, or its error."""
    outcome = cancellation.outcome
    if cancellation.phase is Phase.OUTCOME_UNKNOWN:
        seems = phases.NO_TRACE if cancellation.phase_reason == phases.NO_TRACE else ""
        raise _unknown(cancellation.id, seems)
    refused = outcome and outcome.kind in (OutcomeKind.REFUSED, OutcomeKind.NOT_FORWARDED)
    if refused and outcome and outcome.error:
        error = errors.replay(outcome.error)
        error.metadata |= {"cancellation_id": cancellation.id, "phase": cancellation.phase.value}
        raise error
    return cancellation


def _reused(asked: CancelCall) -> errors.RequestIdReused:
    return errors.RequestIdReused(metadata={"request_id": asked.request_id})


def _unknown(cancellation_id: str, message: str = "") -> errors.OutcomeUnknown:
    return errors.OutcomeUnknown(
        message, metadata={"cancellation_id": cancellation_id, "phase": Phase.OUTCOME_UNKNOWN.value}
    )
