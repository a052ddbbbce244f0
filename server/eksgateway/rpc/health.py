"""grpc.health.v1: readiness by service, and liveness as a service of its own.

grpcio's own servicer awaits a client's send while it holds its lock, so one slow client stalls
everybody; here each watcher looks at the shared statuses by itself and no lock is held.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, TypeAlias

from grpc_health.v1 import health_pb2 as pb

from eksgateway.clock import Clock
from eksgateway.errors import GatewayError, ServiceUnknown
from eksgateway.logs import Log
from eksgateway.rpc.methods import CANCELLATIONS, HEALTH, UPDATES

log = Log(__name__)

_NOT = pb.HealthCheckResponse.NOT_SERVING

READINESS = ""
LIVENESS = "liveness"
_READY_SERVICES = (READINESS, UPDATES, CANCELLATIONS)
_INTERVAL_S = 2.0


ReadinessCheck: TypeAlias = Callable[[], Awaitable[None]]


class HealthService:
    """What is served now. NOT_SERVING until the first probe found every part ready.

    ``faults`` holds the error reason of each part that is not ready, by the part's name.
    """

    def __init__(self) -> None:
        self.faults: Mapping[str, str] = {}
        self._statuses: dict[str, int] = dict.fromkeys(_READY_SERVICES, pb.HealthCheckResponse.NOT_SERVING)
        self._statuses |= dict.fromkeys((LIVENESS, HEALTH), pb.HealthCheckResponse.SERVING)
        self._changed = asyncio.Event()
        self._draining = False

    def ready(self, *, yes: bool) -> None:
        """Set readiness; once draining it stays off."""
        self._set(pb.HealthCheckResponse.SERVING if yes and not self._draining else _NOT)

    def drain(self) -> None:
        """Not ready any more, for good."""
        self._draining = True
        self._set(_NOT)

    def unready(self) -> list[str]:
        """What is not ready, a line each: a part and the reason of its error. Empty when ready."""
        if self._draining:
            return ["draining"]
        if self._statuses[READINESS] == pb.HealthCheckResponse.SERVING:
            return []
        return [f"{name}: {reason}" for name, reason in self.faults.items()] or ["starting"]

    def _set(self, status: int) -> None:
        if self._statuses[READINESS] == status:
            return
        self._statuses |= dict.fromkeys(_READY_SERVICES, status)
        self._changed.set()
        self._changed = asyncio.Event()

    async def Check(self, request: pb.HealthCheckRequest, _context: Any) -> pb.HealthCheckResponse:
        if request.service not in self._statuses:
            raise ServiceUnknown
        return pb.HealthCheckResponse(status=self._statuses[request.service])

    async def List(self, _request: Any, _context: Any) -> Any:
        statuses = {name: pb.HealthCheckResponse(status=status) for name, status in self._statuses.items()}
        return pb.HealthListResponse(statuses=statuses)  # type: ignore[attr-defined]  # newer than its stubs

    async def Watch(
        self, request: pb.HealthCheckRequest, _context: Any
    ) -> AsyncIterator[pb.HealthCheckResponse]:
        told = None
        while True:
            changed = self._changed
            status = self._statuses.get(request.service, pb.HealthCheckResponse.SERVICE_UNKNOWN)
            if status != told:
                told = status
                yield pb.HealthCheckResponse(status=status)
            if self._draining:
                return
            await changed.wait()


async def run_readiness_checks(
    health: HealthService, checks: Mapping[str, ReadinessCheck], clock: Clock
) -> None:
    """Keep readiness true to whether every part can do its work; runs until cancelled.

    ``checks`` holds one check for each part, by the name it has in the log. A check returns when its
    part is ready, and raises a GatewayError otherwise.
    """
    logged: dict[str, str] | None = None
    while True:
        faults = {name: await _fault(check, name) for name, check in checks.items()}
        health.faults = {name: fault for name, fault in faults.items() if fault}
        health.ready(yes=not health.faults)
        if health.faults != logged:
            logged = health.faults
            log.info("health.readiness", faults=health.faults)
        await clock.sleep(_INTERVAL_S)


async def _fault(check: ReadinessCheck, name: str) -> str:
    """The error reason of a check that fails, or an empty string."""
    try:
        await check()
    except GatewayError as exc:
        return exc.reason
    except Exception:
        log.exception("health.unexpected", part=name)
        return "INTERNAL"
    return ""
