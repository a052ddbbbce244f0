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
from eksgateway.policy.question import Question
from eksgateway.rpc import fields
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
        if call.method is not None and call.method.access is Access.POLICY:
            for action in call.method.actions:
                await self._require(call, action)

    async def _require(self, call: Call, action: Action) -> None:
        request: Any = call.request
        call.cluster = fields.clip_cluster(fields.cluster_ref(request.cluster, self._home))

        def text(name: str, longest: int) -> str:
            return fields.clip(getattr(request, name, ""), longest)

        question = Question(
            caller=call.caller,
            action=action,
            cluster=call.cluster,
            method=call.path,
            decision_id=call.decision_id,
            time=self._clock.now(),
            reason=text("reason", fields.REASON_LENGTH),
            ticket=text("ticket", fields.TICKET_LENGTH),
        )
        await self._decisions.require(
            question,
            cancels=call.method is not None and Action.CANCEL in call.method.actions,
            update_id=text("update_id", fields.ID_LENGTH),
            request_id=text("request_id", fields.ID_LENGTH),
        )
