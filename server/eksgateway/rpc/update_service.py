"""UpdateService: translate, call once, translate back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime
from typing import Any

from eksgateway import cancellability
from eksgateway.cancellable_updates import CancellableUpdates, Cursor, Found
from eksgateway.cancellation import CancelCall
from eksgateway.clock import Clock
from eksgateway.decisions import Decisions
from eksgateway.eks.arn import verify_arn
from eksgateway.eks.budgeted import BudgetedEks
from eksgateway.eks.shared_reads import SharedReads
from eksgateway.errors import EksNotFound, GatewayError, TargetNotConfigured
from eksgateway.idempotency import IdempotentCancels
from eksgateway.model import (
    Action,
    Cancellation,
    ClusterFacts,
    ClusterRef,
    Decision,
    Target,
    Update,
    UpdateRef,
)
from eksgateway.policy.question import Question
from eksgateway.rights.reauthorization import Reauthorization
from eksgateway.rpc import page_tokens, request_fields, to_proto
from eksgateway.rpc.call import Call
from eksgateway.settings import WatchSettings
from eksgateway.v1 import error_reason_pb2
from eksgateway.v1 import update_service_pb2 as pb
from eksgateway.watch import resume
from eksgateway.watch.events import WatchEvent, watch_events
from eksgateway.watch.watches import Watches

_MOST_ON_A_PAGE = 10
_MOST_CANCELLABLE = 50


class UpdateService:
    """The handlers get the interceptors' Call in the place of grpc's context."""

    def __init__(  # noqa: PLR0913  each is one part of the gateway
        self,
        *,
        decisions: Decisions,
        cancels: IdempotentCancels,
        eks: BudgetedEks,
        reads: SharedReads,
        cancellable_updates: CancellableUpdates,
        watches: Watches,
        reauthorization: Reauthorization,
        home: Target,
        clock: Clock,
        settings: WatchSettings,
    ) -> None:
        self._decisions = decisions
        self._cancels = cancels
        self._eks = eks
        self._reads = reads
        self._cancellable_updates = cancellable_updates
        self._watches = watches
        self._reauthorization = reauthorization
        self._home = home
        self._clock = clock
        self._settings = settings

    async def CancelUpdate(self, request: pb.CancelUpdateRequest, call: Call) -> pb.CancelUpdateResponse:
        cancellation = await self._cancel(request, call)
        return pb.CancelUpdateResponse(cancellation=to_proto.cancellation(cancellation))

    async def CheckCancelUpdate(
        self, request: pb.CheckCancelUpdateRequest, call: Call
    ) -> pb.CheckCancelUpdateResponse:
        ref = self._update_ref(request)
        admitted = call.question(
            Action.CANCEL, ref.cluster, self._clock.now(), request_fields.justification(request)
        )
        at_request = await self._decisions.ask(admitted)
        eks = self._eks.for_caller(call.caller.id)
        cluster = verify_arn(await eks.describe_cluster(ref.cluster), ref.cluster)
        update = await eks.describe_update(ref)
        question = replace(admitted, facts=cluster, update=update)
        await self._decisions.require(replace(question, action=Action.CHECK))
        decision = await self._decisions.ask(question) if at_request.allowed else at_request
        answer = pb.CheckCancelUpdateResponse(decision=to_proto.decision(decision))
        if await self._decisions.allows(replace(question, action=Action.GET)):
            answer.update.CopyFrom(to_proto.update(update))
            advice = cancellability.advise(cluster, update)
            answer.cancellability.cancellable_now = advice.cancellable_now
            answer.cancellability.explanation = advice.explanation
            answer.cancellability.next_step = advice.next_step
        return answer

    async def GetUpdate(self, request: pb.GetUpdateRequest, call: Call) -> pb.GetUpdateResponse:
        update, _, _ = await self._admit(call, Action.GET, self._update_ref(request))
        return pb.GetUpdateResponse(update=to_proto.update(update))

    async def ListUpdates(self, request: pb.ListUpdatesRequest, call: Call) -> pb.ListUpdatesResponse:
        cluster = request_fields.cluster_ref(request.cluster, self._home)
        checked = request_fields.Fields()
        request_fields.check_cluster(checked, cluster)
        checked.between("page_size", request.page_size, 0, _MOST_ON_A_PAGE)
        bound_to = ("updates", call.caller.id, str(cluster))
        position = page_tokens.decode(checked, request.page_token, *bound_to)
        checked.done()
        self._serve(cluster)
        who = call.caller.id
        facts = await self._facts(cluster, who)
        size = request.page_size or _MOST_ON_A_PAGE
        ids, following = await self._eks.for_caller(who).list_updates(cluster, size, position)
        updates = []
        for update_id in ids:
            ref = UpdateRef(cluster, update_id)
            try:
                seen = await self._reads.update(ref, self._settings.facts_max_age_s, who)
            except EksNotFound:  # EKS has forgotten it since it listed it
                continue
            question = call.question(Action.GET, cluster, self._clock.now())
            if await self._decisions.allows(replace(question, facts=facts, update=seen.update)):
                updates.append(to_proto.update(seen.update))
        return pb.ListUpdatesResponse(
            updates=updates, next_page_token=page_tokens.encode(following, *bound_to)
        )

    async def ListCancellableUpdates(
        self, request: pb.ListCancellableUpdatesRequest, call: Call
    ) -> pb.ListCancellableUpdatesResponse:
        checked = request_fields.Fields()
        checked.between("page_size", request.page_size, 0, _MOST_CANCELLABLE)
        bound_to = ("cancellable", call.caller.id)
        start = Cursor.parse(page_tokens.decode(checked, request.page_token, *bound_to))
        everywhere = ClusterRef(self._home.account_id, self._home.region, "")
        question = call.question(Action.LIST, everywhere, self._clock.now())
        targets = await self._cancellable_updates.admitted(question)
        checked.done()
        page = await self._cancellable_updates.page(
            question, targets, request.page_size or _MOST_CANCELLABLE, start
        )
        return pb.ListCancellableUpdatesResponse(
            updates=[_cancellable(found) for found in page.found],
            unreachable=[_unreachable(target, error) for target, error in page.missed.items()],
            next_page_token=page_tokens.encode(str(page.following or ""), *bound_to),
        )

    def WatchUpdate(
        self, request: pb.WatchUpdateRequest, call: Call
    ) -> AsyncIterator[pb.WatchUpdateResponse]:
        return self._watch(call, self._update_ref(request), request.resume_token)

    async def CancelUpdateAndWatch(
        self, request: pb.CancelUpdateAndWatchRequest, call: Call
    ) -> AsyncIterator[pb.CancelUpdateAndWatchResponse]:
        cancellation = await self._cancel(request, call, id_required=True, also=(Action.WATCH,))
        yield pb.CancelUpdateAndWatchResponse(cancellation=to_proto.cancellation(cancellation))
        call.become_watch()
        async for message in self._watch(call, cancellation.ref):
            yield pb.CancelUpdateAndWatchResponse(watch=message)

    async def _cancel(
        self,
        request: pb.CancelUpdateRequest | pb.CancelUpdateAndWatchRequest,
        call: Call,
        *,
        id_required: bool = False,
        also: tuple[Action, ...] = (),
    ) -> Cancellation:
        ref = self._update_ref(request, id_required=id_required)
        return await self._cancels.cancel(
            CancelCall(
                question=call.question(
                    Action.CANCEL, ref.cluster, self._clock.now(), request_fields.justification(request)
                ),
                ref=ref,
                request_id=call.request_id,  # the caller's own, or one drawn for this call
                also=also,
            )
        )

    async def _watch(
        self, call: Call, ref: UpdateRef, resume_token: str = ""
    ) -> AsyncIterator[pb.WatchUpdateResponse]:
        since = self._clock.monotonic()  # before the shared read that the first state may come from
        _, question, decision = await self._admit(call, Action.WATCH, ref)
        position = resume.decode(resume_token, ref) if resume_token else None
        with (
            self._watches.subscribe(ref, position, since) as slot,
            self._reauthorization.guard(ref, question, decision, slot),
        ):
            del question, decision  # thousands watch at once
            async for event in watch_events(slot, self._settings.heartbeat_s, position):
                yield _message(ref, event, self._clock.now())

    async def _admit(self, call: Call, action: Action, ref: UpdateRef) -> tuple[Update, Question, Decision]:
        """The update as shared reads know it, after the policy allowed the action with its facts."""
        who = call.caller.id
        facts = await self._facts(ref.cluster, who)
        seen = await self._reads.update(ref, self._settings.facts_max_age_s, who)
        question = replace(
            call.question(action, ref.cluster, self._clock.now()), facts=facts, update=seen.update
        )
        return seen.update, question, await self._decisions.require(question)

    async def _facts(self, cluster: ClusterRef, who: str) -> ClusterFacts:
        """The cluster as shared reads know it, and certainly the one that was asked about."""
        return verify_arn(await self._reads.cluster(cluster, self._settings.facts_max_age_s, who), cluster)

    def _update_ref(self, request: Any, *, id_required: bool = False) -> UpdateRef:
        ref = request_fields.update_ref(request, self._home, id_required=id_required)
        self._serve(ref.cluster)
        return ref

    def _serve(self, cluster: ClusterRef) -> None:
        if not self._eks.serves(cluster):
            raise TargetNotConfigured


def _message(ref: UpdateRef, event: WatchEvent, now: datetime) -> pb.WatchUpdateResponse:
    return pb.WatchUpdateResponse(
        kind=pb.WatchKind.Value(f"WATCH_KIND_{event.kind.value}"),
        update=to_proto.update(event.update),
        phase=to_proto.phase(event.phase),
        phase_reason=event.state.reason,
        sequence=event.sequence,
        observe_time=to_proto.timestamp(event.observe_time),
        resume_token=resume.encode(ref, event.position),
        age=to_proto.duration(now - event.observe_time),
    )


def _cancellable(found: Found) -> pb.CancellableUpdate:
    return pb.CancellableUpdate(
        cluster=to_proto.cluster_ref(found.ref.cluster),
        update=to_proto.update(found.update),
        explanation=found.explanation,
    )


def _unreachable(target: Target, error: GatewayError) -> pb.UnreachableTarget:
    return pb.UnreachableTarget(
        account_id=target.account_id,
        region=target.region,
        reason=error_reason_pb2.ErrorReason.Value(f"ERROR_REASON_{error.reason}"),
        message=error.message,
    )
