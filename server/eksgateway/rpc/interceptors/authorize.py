"""Asks the policy at stage *request*: caller, action and cluster, before anything is asked of EKS.

Who is denied here costs no EKS call, and cannot tell an existing cluster from a missing or a
malformed one: fields are checked only afterwards, and clipped before, so that a stranger's text takes
no room in the policy's input and in the decision log.
"""

from __future__ import annotations

from typing import Any

from eksgateway.clock import Clock
from eksgateway.decisions import Decisions
from eksgateway.model import Action, Target
from eksgateway.rpc import request_fields
from eksgateway.rpc.call import Call
from eksgateway.rpc.interceptors.interceptor import Interceptor
from eksgateway.rpc.methods import Access


class Authorize(Interceptor):
    """Every action of the method must be allowed on the cluster that the request names."""

    def __init__(self, decisions: Decisions, home: Target, clock: Clock) -> None:
        self._decisions = decisions
        self._home = home
        self._clock = clock

    async def admit(self, call: Call, context: Any) -> None:  # noqa: ARG002
        if call.method is None or call.method.access is not Access.POLICY:
            return
        request: Any = call.request
        cluster = request_fields.clip_cluster(request_fields.cluster_ref(request.cluster, self._home))
        update_id = _text(request, "update_id", request_fields.ID_LENGTH)
        call.about = f"{cluster}/{update_id}" if update_id else str(cluster)
        justification = request_fields.clip_justification(request_fields.justification(request))
        for action in call.method.actions:
            await self._decisions.require(
                call.question(action, cluster, self._clock.now(), justification),
                cancels=Action.CANCEL in call.method.actions,
                update_id=update_id,
                request_id=_text(request, "request_id", request_fields.ID_LENGTH),
            )


def _text(request: Any, name: str, longest: int) -> str:
    return request_fields.clip(getattr(request, name, ""), longest)
