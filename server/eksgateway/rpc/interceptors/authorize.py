"""Asks the policy at stage *request*: about caller, action and cluster, before EKS is called.

Fields are validated afterwards, so a denied caller does not learn whether they are well formed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eksgateway.clock import Clock
from eksgateway.decisions import Decisions
from eksgateway.model import Action, Target
from eksgateway.rpc import request_fields
from eksgateway.rpc.call import Call
from eksgateway.rpc.context import RpcContext
from eksgateway.rpc.interceptors.interceptor import Interceptor
from eksgateway.rpc.methods import Access


@dataclass(frozen=True, slots=True)
class Authorize(Interceptor):
    decisions: Decisions
    home: Target
    clock: Clock

    async def enter(self, call: Call, context: RpcContext) -> None:  # noqa: ARG002
        if call.method is None or call.access is not Access.POLICY:
            return
        request: Any = call.request
        cluster = request_fields.clip_cluster(request_fields.cluster_ref(request.cluster, self.home))
        justification = request_fields.justification(request)
        update_id = _clip_id(request, "update_id")
        call.resource = f"{cluster}/{update_id}" if update_id else str(cluster)
        for action in call.method.actions:
            await self.decisions.require(
                call.question(action, cluster, self.clock.now(), justification),
                cancels=Action.CANCEL in call.method.actions,
                update_id=update_id,
                request_id=_clip_id(request, "request_id"),
            )


def _clip_id(request: Any, name: str) -> str:
    return request_fields.clip(getattr(request, name, ""), request_fields.ID_LENGTH)
