"""CancellationService: the ledger's record, authorised row by row on the recorded facts.

A list is narrowed to what its caller may read before it is cut into pages: what is left of a page, or
whether another one follows, would tell what others have done.
"""

from __future__ import annotations

from dataclasses import replace

from eksgateway.clock import Clock
from eksgateway.decisions import Decisions
from eksgateway.errors import CancellationNotFound, RequestInvalid
from eksgateway.ledger.protocol import HistoryFilter, Ledger, ReadScope
from eksgateway.model import Action, Cancellation, ClusterRef, Target
from eksgateway.rpc import page_tokens, request_fields, to_proto
from eksgateway.rpc.call import Call
from eksgateway.v1 import cancellation_service_pb2 as pb

_DEFAULT_PAGE = 50
_LONGEST_PAGE = 100
_LONGEST_CALLER = 2048


class CancellationService:
    """One's own cancellations are always readable; others' need the action ``history``."""

    def __init__(self, *, decisions: Decisions, ledger: Ledger, home: Target, clock: Clock) -> None:
        self._decisions = decisions
        self._ledger = ledger
        self._home = home
        self._clock = clock

    async def GetCancellation(
        self, request: pb.GetCancellationRequest, call: Call
    ) -> pb.GetCancellationResponse:
        key = request.WhichOneof("key")
        if key is None:
            raise RequestInvalid(violations={"key": "set cancellation_id or request_id"})
        if key == "request_id":
            found = await self._ledger.find(call.caller.id, request.request_id)
        else:
            found = await self._visible(request.cancellation_id, call)
        if found is None:
            raise CancellationNotFound
        return pb.GetCancellationResponse(cancellation=to_proto.cancellation(found))

    async def ListCancellations(
        self, request: pb.ListCancellationsRequest, call: Call
    ) -> pb.ListCancellationsResponse:
        checked = request_fields.Fields()
        checked.between("page_size", request.page_size, 0, _LONGEST_PAGE)
        checked.text("caller", request.caller, _LONGEST_CALLER)
        cluster = None
        if request.HasField("cluster"):
            cluster = request_fields.cluster_ref(request.cluster, self._home)
            request_fields.check_cluster(checked, cluster)
        bound_to = ("cancellations", call.caller.id, str(cluster or ""), request.caller)
        before = page_tokens.decode(checked, request.page_token, *bound_to)
        checked.done()
        which = HistoryFilter(cluster, request.caller, await self._readable(cluster, request.caller, call))
        page = await self._ledger.history(which, request.page_size or _DEFAULT_PAGE, before)
        visible = [to_proto.cancellation(row) for row in page.cancellations if await self._may_see(row, call)]
        return pb.ListCancellationsResponse(
            cancellations=visible, next_page_token=page_tokens.encode(page.before, *bound_to)
        )

    async def _readable(self, cluster: ClusterRef | None, caller_id: str, call: Call) -> ReadScope:
        """What the caller may read, as far as the policy can tell by the clusters' names."""
        who = call.caller
        if caller_id == who.id:  # always readable, also while the policy cannot answer
            return ReadScope(who.id, ())
        await self._decisions.check()  # an outage must not tell whether there was anything to ask about
        asked = (cluster,) if cluster is not None else await self._ledger.clusters(caller_id)
        admitted = [
            each
            for each in asked
            if await self._decisions.allows(call.question(Action.HISTORY, each, self._clock.now()))
        ]
        return ReadScope(who.id, tuple(admitted))

    async def _visible(self, cancellation_id: str, call: Call) -> Cancellation | None:
        found = await self._ledger.get(cancellation_id)
        if found is None:
            await self._decisions.check()  # an outage must not tell missing from forbidden
            return None
        return found if await self._may_see(found, call) else None

    async def _may_see(self, row: Cancellation, call: Call) -> bool:
        if row.intent.caller.id == call.caller.id:
            return True
        question = call.question(Action.HISTORY, row.ref.cluster, self._clock.now())
        facts = row.intent
        return await self._decisions.allows(replace(question, facts=facts.cluster, update=facts.update))
