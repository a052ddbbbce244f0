"""UpdateService: reads and watches updates, and cancels them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from typing import Any, Final

from eksgateway import cancellability
from eksgateway.cancellable_updates import CancellableUpdates, Cursor
from eksgateway.cancellation import CancelCall
from eksgateway.clock import Clock
from eksgateway.decisions import Decisions
from eksgateway.eks.arn import verify_arn
from eksgateway.eks.budgeted import BudgetedEks
from eksgateway.eks.shared_reads import SharedReads
from eksgateway.errors import EksNotFound, TargetNotConfigured
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
from eksgateway.v1 import update_service_pb2 as pb
from eksgateway.watch import resume
from eksgateway.watch.events import watch_events
from eksgateway.watch.watches import Watches

_MAX_PAGE: Final = 10
_MAX_CANCELLABLE_PAGE: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateService:
    """The handlers get the interceptors' Call in place of grpc's context."""

    decisions: Decisions
    cancels: IdempotentCancels
    eks: BudgetedEks
    reads: SharedReads
    cancellable_updates: CancellableUpdates
    watches: Watches
    reauthorization: Reauthorization
    home: Target
    clock: Clock
    settings: WatchSettings

    async def CancelUpdate(self, request: pb.CancelUpdateRequest, call: Call) -> pb.CancelUpdateResponse:
        cancellation = await self._cancel(request, call)
        return pb.CancelUpdateResponse(cancellation=to_proto.cancellation(cancellation))

    async def CheckCancelUpdate(
        self, request: pb.CheckCancelUpdateRequest, call: Call
    ) -> pb.CheckCancelUpdateResponse:
        ref = self._update_ref(request)
        at_request = self._cancel_question(request, call, ref)
        decision = await self.decisions.ask(at_request)
        eks = self.eks.for_caller(call.caller.id)
        cluster, update = await eks.describe_both(ref)
        question = replace(at_request, facts=cluster, update=update)
        await self.decisions.require(replace(question, action=Action.CHECK))
        if decision.allowed:
            decision = await self.decisions.ask(question)
        response = pb.CheckCancelUpdateResponse(decision=to_proto.decision(decision))
        if await self.decisions.allows(replace(question, action=Action.GET)):
            response.update.CopyFrom(to_proto.update(update))
            advice = cancellability.advise(cluster, update)
            response.cancellability.CopyFrom(to_proto.cancellability(advice))
        return response

    async def GetUpdate(self, request: pb.GetUpdateRequest, call: Call) -> pb.GetUpdateResponse:
        update, _, _ = await self._authorize(call, Action.GET, self._update_ref(request))
        return pb.GetUpdateResponse(update=to_proto.update(update))

    async def ListUpdates(self, request: pb.ListUpdatesRequest, call: Call) -> pb.ListUpdatesResponse:
        caller_id = call.caller.id
        cluster = request_fields.cluster_ref(request.cluster, self.home)
        bound_to = ("updates", caller_id, str(cluster))
        violations = request_fields.FieldViolations()
        violations.cluster(cluster)
        violations.between("page_size", request.page_size, 0, _MAX_PAGE)
        position = page_tokens.decode(violations, request.page_token, *bound_to)
        violations.raise_if_any()
        self._require_target(cluster)
        facts = await self._read_cluster(cluster, caller_id)
        size = request.page_size or _MAX_PAGE
        ids, following = await self.eks.for_caller(caller_id).list_updates(cluster, size, position)
        updates = []
        for update_id in ids:
            try:
                update = await self._read_update(UpdateRef(cluster, update_id), caller_id)
            except EksNotFound:  # EKS has deleted it since it listed it
                continue
            question = call.question(Action.GET, cluster, self.clock.now())
            if await self.decisions.allows(replace(question, facts=facts, update=update)):
                updates.append(to_proto.update(update))
        next_page_token = page_tokens.encode(following, *bound_to)
        return pb.ListUpdatesResponse(updates=updates, next_page_token=next_page_token)

    async def ListCancellableUpdates(
        self, request: pb.ListCancellableUpdatesRequest, call: Call
    ) -> pb.ListCancellableUpdatesResponse:
        bound_to = ("cancellable", call.caller.id)
        violations = request_fields.FieldViolations()
        violations.between("page_size", request.page_size, 0, _MAX_CANCELLABLE_PAGE)
        start = Cursor.parse(page_tokens.decode(violations, request.page_token, *bound_to))
        no_cluster = ClusterRef(self.home.account_id, self.home.region, "")
        question = call.question(Action.LIST, no_cluster, self.clock.now())
        targets = await self.cancellable_updates.find_listable(question)  # before a caller sees violations
        violations.raise_if_any()
        size = request.page_size or _MAX_CANCELLABLE_PAGE
        page = await self.cancellable_updates.find_page(question, targets, size, start)
        return pb.ListCancellableUpdatesResponse(
            updates=map(to_proto.cancellable_update, page.updates),
            unreachable=[to_proto.unreachable_target(*failure) for failure in page.failures.items()],
            next_page_token=page_tokens.encode(str(page.next_start or ""), *bound_to),
        )

    def WatchUpdate(
        self, request: pb.WatchUpdateRequest, call: Call
    ) -> AsyncGenerator[pb.WatchUpdateResponse]:
        return self._watch(call, self._update_ref(request), request.resume_token)

    async def CancelUpdateAndWatch(
        self, request: pb.CancelUpdateAndWatchRequest, call: Call
    ) -> AsyncGenerator[pb.CancelUpdateAndWatchResponse]:
        cancellation = await self._cancel(request, call, id_required=True, other_actions=(Action.WATCH,))
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
        other_actions: tuple[Action, ...] = (),
    ) -> Cancellation:
        ref = self._update_ref(request, id_required=id_required)
        question = self._cancel_question(request, call, ref)
        return await self.cancels.cancel(CancelCall(question, ref, call.request_id, other_actions))

    def _cancel_question(self, request: Any, call: Call, ref: UpdateRef) -> Question:
        justification = request_fields.justification(request)
        return call.question(Action.CANCEL, ref.cluster, self.clock.now(), justification)

    async def _watch(
        self, call: Call, ref: UpdateRef, resume_token: str = ""
    ) -> AsyncGenerator[pb.WatchUpdateResponse]:
        since = self.clock.monotonic()  # before the shared read that the first state may come from
        _, question, decision = await self._authorize(call, Action.WATCH, ref)
        position = resume.decode(resume_token, ref) if resume_token else None
        with (
            self.watches.subscribe(ref, position, since) as slot,
            self.reauthorization.guard(ref, question, decision, slot),
        ):
            del question, decision  # thousands of watches are open at once
            async for event in watch_events(slot, self.settings.heartbeat_s, position):
                yield to_proto.watch_response(ref, event, self.clock.now())

    async def _authorize(
        self, call: Call, action: Action, ref: UpdateRef
    ) -> tuple[Update, Question, Decision]:
        """Asks the policy at stage update."""
        caller_id = call.caller.id
        facts = await self._read_cluster(ref.cluster, caller_id)
        update = await self._read_update(ref, caller_id)
        question = replace(call.question(action, ref.cluster, self.clock.now()), facts=facts, update=update)
        return update, question, await self.decisions.require(question)

    async def _read_cluster(self, cluster: ClusterRef, caller_id: str) -> ClusterFacts:
        facts = await self.reads.cluster(cluster, self.settings.facts_max_age_s, caller_id)
        return verify_arn(facts, cluster)

    async def _read_update(self, ref: UpdateRef, caller_id: str) -> Update:
        return (await self.reads.update(ref, self.settings.facts_max_age_s, caller_id)).update

    def _update_ref(self, request: Any, *, id_required: bool = False) -> UpdateRef:
        ref = request_fields.update_ref(request, self.home, id_required=id_required)
        self._require_target(ref.cluster)
        return ref

    def _require_target(self, cluster: ClusterRef) -> None:
        if not self.eks.serves(cluster):
            raise TargetNotConfigured
