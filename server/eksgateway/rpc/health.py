"""grpc.health.v1: readiness, and liveness as a health service of its own.

grpcio's own servicer holds a lock while it sends to a client, so one slow client stalls all others.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any, Final, TypeAlias

from grpc_health.v1 import health_pb2 as pb

from eksgateway.clock import Clock
from eksgateway.errors import GatewayError, ServiceUnknown
from eksgateway.logs import Log
from eksgateway.rpc.methods import CANCELLATIONS, HEALTH, UPDATES

log = Log(__name__)

SERVING: Final[int] = pb.HealthCheckResponse.SERVING
NOT_SERVING: Final[int] = pb.HealthCheckResponse.NOT_SERVING
READINESS: Final = ""
LIVENESS: Final = "liveness"
_READY_SERVICES: Final = (READINESS, UPDATES, CANCELLATIONS)
_INTERVAL_S: Final = 2.0

# Raises a GatewayError unless its part is ready.
ReadinessCheck: TypeAlias = Callable[[], Awaitable[None]]


class HealthService:
    """``faults`` has the error reason of each part that is not ready, by the part's name."""

    def __init__(self) -> None:
        self.faults: Mapping[str, str] = {}
        self._statuses = dict.fromkeys(_READY_SERVICES, NOT_SERVING)
        self._statuses |= dict.fromkeys((LIVENESS, HEALTH), SERVING)
        self._changed = asyncio.Event()
        self._draining = False

    def set_faults(self, faults: Mapping[str, str]) -> None:
        self.faults = faults
        self._set_readiness(NOT_SERVING if faults or self._draining else SERVING)

    def drain(self) -> None:
        self._draining = True
        self._set_readiness(NOT_SERVING)

    def unready_parts(self) -> list[str]:
        """A line for each part that is not ready, with its error reason."""
        if self._draining:
            return ["draining"]
        if self._statuses[READINESS] == SERVING:
            return []
        return [f"{name}: {reason}" for name, reason in self.faults.items()] or ["starting"]

    def _set_readiness(self, status: int) -> None:
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
    ) -> AsyncGenerator[pb.HealthCheckResponse]:
        last = None
        while True:
            changed = self._changed
            status = self._statuses.get(request.service, pb.HealthCheckResponse.SERVICE_UNKNOWN)
            if status != last:
                last = status
                yield pb.HealthCheckResponse(status=status)
            if self._draining:
                return
            await changed.wait()


async def run_readiness_checks(
    health: HealthService, checks: Mapping[str, ReadinessCheck], clock: Clock
) -> None:
    """Runs until cancelled. ``checks`` has one check for each part."""
    logged: Mapping[str, str] | None = None
    while True:
        faults = {name: await _fault(check, name) for name, check in checks.items()}
        health.set_faults({name: fault for name, fault in faults.items() if fault})
        if health.faults != logged:
            logged = health.faults
            log.info("health.readiness", faults=health.faults)
        await clock.sleep(_INTERVAL_S)


async def _fault(check: ReadinessCheck, name: str) -> str:
    try:
        await check()
    except GatewayError as exc:
        return exc.reason
    except Exception:
        log.exception("health.unexpected", part=name)
        return "INTERNAL"
    return ""
