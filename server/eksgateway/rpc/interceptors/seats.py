"""Makes calls wait for a seat before any work is spent on them."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass

from eksgateway.identity.protocol import Identity
from eksgateway.logs import Log
from eksgateway.metrics import Metrics
from eksgateway.model import Action
from eksgateway.rpc.admission import Admission
from eksgateway.rpc.call import Call
from eksgateway.rpc.context import RpcContext
from eksgateway.rpc.interceptors.authenticate import read_credentials
from eksgateway.rpc.interceptors.interceptor import Interceptor
from eksgateway.rpc.methods import Access, Quota
from eksgateway.rpc.queues import Band, Flow
from eksgateway.settings import LimitSettings

log = Log(__name__)


@dataclass(frozen=True, slots=True)
class TakeSeat(Interceptor):
    """Queues calls by caller if their credentials were verified before, else by connection."""

    admission: Admission
    identity: Identity
    certificates: bool
    settings: LimitSettings

    async def enter(self, call: Call, context: RpcContext) -> None:
        is_watch = call.quota is Quota.WATCH
        max_held = self.settings.watches_per_caller if is_watch else self.settings.calls_per_caller
        call.seat = await self.admission.enter(self._flow(call, context), max_held)

    def begin_answer(self, call: Call) -> None:
        self.leave(call)

    def leave(self, call: Call) -> None:
        seat, call.seat = call.seat, None
        if seat is not None:
            self.admission.leave(seat)

    def _flow(self, call: Call, context: RpcContext) -> Flow:
        if call.access in (Access.OPEN, Access.REFLECTION):
            return Flow(f"{call.peer}/open", Band.OPEN)
        caller = self.identity.recall_caller_id(*read_credentials(call, context, self.certificates))
        return Flow(call.peer, Band.STRANGER) if caller is None else _caller_flow(caller, call)


@dataclass(frozen=True, slots=True)
class MoveSeat(Interceptor):
    """After authentication: counts a stranger's call as its caller's, so that the next stranger of its
    connection, which may be a proxy's, gets a seat.
    """

    admission: Admission

    async def enter(self, call: Call, context: RpcContext) -> None:  # noqa: ARG002
        seat, caller = call.seat, call.verified_caller
        if seat is not None and caller is not None and seat.flow.band is Band.STRANGER:
            self.admission.move(seat, _caller_flow(caller.id, call))


def _caller_flow(caller: str, call: Call) -> Flow:
    cancels = call.method is not None and Action.CANCEL in call.method.actions
    return Flow(caller, Band.CANCEL if cancels else Band.READ)


class RefusalLog:
    """Logs the calls that get no seat once a second: a line each would feed a flood."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._flows: Counter[Flow] = Counter()

    def add(self, flow: Flow) -> None:
        self._metrics.count_refused_call(flow.band.name.lower())
        if not self._flows:
            asyncio.get_running_loop().call_later(1.0, self._log)
        self._flows[flow] += 1

    def _log(self) -> None:
        flows, self._flows = self._flows, Counter()
        ((worst, calls),) = flows.most_common(1)
        most = {"peer" if worst.band.is_per_connection else "caller": worst.key, "calls": calls}
        log.warning("admission.refused", calls=flows.total(), flows=len(flows), most=most)
