"""One log line and one count for each call, refused ones included."""

from __future__ import annotations

from dataclasses import dataclass

from eksgateway.clock import Clock
from eksgateway.logs import Log
from eksgateway.metrics import Metrics
from eksgateway.rpc.call import Call
from eksgateway.rpc.context import RpcContext
from eksgateway.rpc.interceptors.interceptor import Interceptor
from eksgateway.rpc.methods import Quota

log = Log(__name__)


@dataclass(frozen=True, slots=True)
class AccessLog(Interceptor):
    """Never logs metadata or messages: they may hold secrets."""

    clock: Clock
    metrics: Metrics

    async def enter(self, call: Call, context: RpcContext) -> None:  # noqa: ARG002
        call.started = self.clock.monotonic()

    def leave(self, call: Call) -> None:
        seconds = self.clock.monotonic() - call.started
        self.metrics.count_call(
            call.path if call.method else "unknown",  # clients can make up any number of paths
            call.status,
            call.reason,
            seconds if call.quota is Quota.CALL else None,
        )
        refused = {"check": call.check, "issuer": call.issuer or None} if call.check else {}
        log.info(
            "rpc.call",
            method=call.path,
            caller=call.verified_caller.id if call.verified_caller else None,
            status=call.status,
            reason=call.reason or None,
            decision_id=call.decision_id,
            request_id=call.request_id,
            peer=call.peer,
            duration_ms=round(seconds * 1000, 3),
            **refused,
        )
