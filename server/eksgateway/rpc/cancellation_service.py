"""CancellationService: the ledger's cancellations, authorized row by row by their recorded facts.

A list is restricted to the caller's read scope before it is cut into pages, which would otherwise reveal
other callers' cancellations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from eksgateway.clock import Clock
from eksgateway.decisions import Decisions
from eksgateway.errors import CancellationNotFound, RequestInvalid
from eksgateway.ledger.protocol import HistoryFilter, HistoryPage, Ledger, ReadScope
from eksgateway.model import NO_CLUSTER, Action, Cancellation, ClusterRef, Target
from eksgateway.policy.question import Question
from eksgateway.rpc import page_tokens, request_fields, to_proto
from eksgateway.rpc.call import Call
from eksgateway.rpc.read_scopes import ReadScopes
from eksgateway.v1 import cancellation_service_pb2 as pb

_DEFAULT_PAGE: Final = 50
_MAX_PAGE: Final = 100
_MAX_CALLER_LENGTH: Final = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class CancellationService:
    """Callers may always read their own cancellations; others' need the action ``history``."""

    decisions: Decisions
    ledger: Ledger
    home: Target
    clock: Clock
    scopes: ReadScopes

    async def GetCancellation(
        self, request: pb.GetCancellationRequest, call: Call
    ) -> pb.GetCancellationResponse:
        key = request.WhichOneof("key")
        if key is None:
            raise RequestInvalid(violations={"key": "set cancellation_id or request_id"})
        if key == "request_id":
            found = await self.ledger.find(call.caller.id, request.request_id)
        else:
            found = await self._get(request.cancellation_id, call)
        if found is None:
            raise CancellationNotFound
        return pb.GetCancellationResponse(cancellation=to_proto.cancellation(found))

    async def ListCancellations(
        self, request: pb.ListCancellationsRequest, call: Call
    ) -> pb.ListCancellationsResponse:
        cluster = None
        violations = request_fields.FieldViolations()
        violations.between("page_size", request.page_size, 0, _MAX_PAGE)
        violations.text("caller", request.caller, _MAX_CALLER_LENGTH)
        if request.HasField("cluster"):
            cluster = request_fields.cluster_ref(request.cluster, self.home)
            violations.cluster(cluster)
        bound_to = ("cancellations", call.caller.id, str(cluster or ""), request.caller)
        before = page_tokens.decode(violations, request.page_token, *bound_to)
        violations.raise_if_any()
        history = HistoryFilter(cluster, request.caller)
        page = await self._read_page(history, request.page_size or _DEFAULT_PAGE, before, call)
        return pb.ListCancellationsResponse(
            cancellations=[
                to_proto.cancellation(row) for row in page.cancellations if await self._may_read(row, call)
            ],
            next_page_token=page_tokens.encode(page.before, *bound_to),
        )

    async def _read_page(self, history: HistoryFilter, size: int, before: str, call: Call) -> HistoryPage:
        """A page of what the caller may read as far as clusters' names decide."""
        own_id = call.caller.id
        if history.caller_id == own_id:  # works without the policy
            return await self.ledger.history(history, size, before)
        await self.decisions.check()  # or an outage would reveal whether there are rows to ask about
        anywhere = self._question(NO_CLUSTER, call)
        if history.cluster is not None:
            clusters: Sequence[ClusterRef] = await self.scopes.choose(anywhere, (history.cluster,))
        elif history.caller_id:
            clusters = await self.scopes.choose(anywhere, await self.ledger.clusters(history.caller_id))
        else:
            if not self.scopes.is_known(anywhere):
                # A page without a scope costs a decision for each of its clusters, and is enough for a caller
                # that may read them all. A scope costs one for each cluster of the ledger.
                page = await self.ledger.history(history, size, before)
                if await self._are_in_scope(page, anywhere):
                    return page
            clusters = await self.scopes.read(anywhere)
        scope = ReadScope(own_id, tuple(clusters))
        return await self.ledger.history(replace(history, scope=scope), size, before)

    async def _are_in_scope(self, page: HistoryPage, anywhere: Question) -> bool:
        """Also the one behind the page, as the page's token reveals that there is one."""
        rows = [*page.cancellations, *([page.following] if page.following else [])]
        others = {row.ref.cluster for row in rows if row.intent.caller.id != anywhere.caller.id}
        return len(await self.scopes.choose(anywhere, list(others))) == len(others)

    async def _get(self, cancellation_id: str, call: Call) -> Cancellation | None:
        found = await self.ledger.get(cancellation_id)
        if found is None:
            await self.decisions.check()  # or during an outage missing and forbidden would differ
            return None
        return found if await self._may_read(found, call) else None

    async def _may_read(self, row: Cancellation, call: Call) -> bool:
        intent = row.intent
        if intent.caller.id == call.caller.id:
            return True
        question = self._question(row.ref.cluster, call)
        return await self.decisions.allows(replace(question, facts=intent.cluster, update=intent.update))

    def _question(self, cluster: ClusterRef, call: Call) -> Question:
        return call.question(Action.HISTORY, cluster, self.clock.now())
