"""Lets calls in by turns, before anything is spent on them."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from eksgateway.identity.protocol import Identity
from eksgateway.logs import Log
from eksgateway.metrics import Metrics
from eksgateway.model import Action
from eksgateway.rpc.admission import Admission
from eksgateway.rpc.call import Call
from eksgateway.rpc.interceptors.authenticate import credentials
from eksgateway.rpc.interceptors.interceptor import Interceptor
from eksgateway.rpc.methods import Access, Place
from eksgateway.rpc.queues import Band, Flow
from eksgateway.settings import LimitSettings

log = Log(__name__)


class TakeSeat(Interceptor):
    """Queues a call with others of its caller if its credentials were proved before, and with others of its
    connection otherwise; calls about the gateway itself with those of their connection.
    """

    def __init__(
        self, admission: Admission, identity: Identity, *, certificates: bool, settings: LimitSettings
    ) -> None:
        self._admission = admission
        self._identity = identity
        self._certificates = certificates
        self._share = {
            Place.CALL: settings.calls_per_caller,
            Place.WATCH: settings.watches_per_caller,
            Place.OPEN: settings.calls_per_caller,
        }

    async def admit(self, call: Call, context: Any) -> None:
        call.seat = await self._admission.enter(self._flow(call, context), self._share[call.place])

    def begin_stream(self, call: Call) -> None:
        self.leave(call)

    def leave(self, call: Call) -> None:
        seat, call.seat = call.seat, None
        if seat is not None:
            self._admission.leave(seat)

    def _flow(self, call: Call, context: Any) -> Flow:
        if call.method is not None and call.method.access in (Access.OPEN, Access.REFLECTION):
            return Flow(f"{call.peer}/open", Band.OPEN)  # not held up by the calls of the same connection
        caller = self._identity.recall_caller_id(*credentials(call, context, self._certificates))
        return Flow(call.peer, Band.STRANGER) if caller is None else _flow_of(caller, call)


class MoveSeat(Interceptor):
    """After identity: a stranger's call is its caller's from here on. So it leaves the seat of its
    connection, which may be a proxy's, to the next stranger, however long EKS takes.
    """

    def __init__(self, admission: Admission) -> None:
        self._admission = admission

    async def admit(self, call: Call, context: Any) -> None:  # noqa: ARG002
        seat, caller = call.seat, call.identified
        if seat is not None and caller is not None and seat.flow.band is Band.STRANGER:
            self._admission.move(seat, _flow_of(caller.id, call))


def _flow_of(caller: str, call: Call) -> Flow:
    cancels = call.method is not None and Action.CANCEL in call.method.actions
    return Flow(caller, Band.CANCEL if cancels else Band.READ)


class RefusalLog:
    """Counts the calls that get no turn, and logs them once a second: a line for each would feed a flood."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._flows: Counter[Flow] = Counter()

    def add(self, flow: Flow) -> None:
        """A call of this flow was refused."""
        self._metrics.count_refused_call(flow.band.name.lower())
        if not self._flows:
            asyncio.get_running_loop().call_later(1.0, self._log)
        self._flows[flow] += 1

    def _log(self) -> None:
        flows, self._flows = self._flows, Counter()
        (worst, calls), *_ = flows.most_common(1)
        kind = "peer" if worst.band.of_connections else "caller"
        log.warning(
            "admission.refused", calls=flows.total(), flows=len(flows), most={kind: worst.key, "calls": calls}
        )
