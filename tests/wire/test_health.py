"""Health: readiness follows policy and ledger, liveness does not; both need no credentials."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from eksgateway.errors import LedgerUnavailable
from eksgateway.ledger.protocol import Ledger
from support.gateway import RunningGateway, run_gateway
from support.logs import capture_logs
from support.simulator import SimulatedEks
from support.wire import expect_refusal

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
UPDATES = "eksgateway.v1.UpdateService"


class Sick:
    """The real ledger, whose ``check`` fails while ``sick``."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.sick = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)

    async def check(self) -> None:
        if self.sick:
            raise LedgerUnavailable
        await self._ledger.check()


async def wait_for_status(gateway: RunningGateway, service: str, status: int) -> None:
    """Wait until Watch sends this status."""
    stub: Any = health_pb2_grpc.HealthStub(gateway.channel)
    async with asyncio.timeout(60):
        async for answer in stub.Watch(health_pb2.HealthCheckRequest(service=service)):
            if answer.status == status:
                return


async def read_status(gateway: RunningGateway, service: str) -> int:
    stub: Any = health_pb2_grpc.HealthStub(gateway.channel)
    answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
    return int(answer.status)


async def test_calls_are_decided_before_readiness(tmp_path: Path, eks: SimulatedEks) -> None:
    """A denial does not need boto3, which loads slowly."""
    async with run_gateway(tmp_path, eks, ready=False) as gateway:
        with pytest.raises(grpc.aio.AioRpcError, match="PERMISSION_DENIED"):
            await gateway.cancel("prod-1", "an-update", who=gateway.outsider)
        assert await read_status(gateway, "") == NOT_SERVING
        assert await read_status(gateway, "liveness") == SERVING
        await gateway.gateway.become_ready()
        await wait_for_status(gateway, "", SERVING)


async def test_failing_ledger_turns_readiness_off_and_not_liveness(tmp_path: Path, eks: SimulatedEks) -> None:
    ledgers: list[Sick] = []

    def wrap(ledger: Ledger) -> Sick:
        ledgers.append(Sick(ledger))
        return ledgers[0]

    async with run_gateway(tmp_path, eks, wrap_ledger=wrap) as gateway:
        await wait_for_status(gateway, "", SERVING)
        ledgers[0].sick = True
        await wait_for_status(gateway, UPDATES, NOT_SERVING)
        assert await read_status(gateway, "") == NOT_SERVING
        assert await read_status(gateway, "liveness") == SERVING
        ledgers[0].sick = False
        await wait_for_status(gateway, "", SERVING)


async def test_unknown_service_is_not_found_by_check_and_unknown_to_watch(gateway: RunningGateway) -> None:
    refusal = await expect_refusal(read_status(gateway, "no.such.Service"))
    assert refusal.status_and_reason == ("NOT_FOUND", "SERVICE_UNKNOWN")
    await wait_for_status(gateway, "no.such.Service", health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)


async def test_health_checks_log_their_status(gateway: RunningGateway) -> None:
    """Clients that leave log nothing else."""
    stub: Any = health_pb2_grpc.HealthStub(gateway.channel)
    request = health_pb2.HealthCheckRequest(service="no.such.Service")
    with capture_logs() as logs:
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.Check(request)
        for number in range(300):
            check = stub.Check(request)
            for _ in range(number % 30):
                await asyncio.sleep(0)
            check.cancel()
    calls = [line["status"] for line in logs if line["event"] == "rpc.call"]
    assert calls[0] == "NOT_FOUND"
    assert set(calls) <= {"NOT_FOUND", "CANCELLED"}
    assert not [line for line in logs if line["log_level"] != "info"]


async def test_list_returns_every_service(gateway: RunningGateway) -> None:
    stub: Any = health_pb2_grpc.HealthStub(gateway.channel)
    answer = await stub.List(health_pb2.HealthListRequest())  # type: ignore[attr-defined]  # newer than its stubs
    assert {"", "liveness", UPDATES, "eksgateway.v1.CancellationService"} <= set(answer.statuses)


async def test_health_needs_no_credentials(gateway: RunningGateway) -> None:
    await wait_for_status(gateway, "", SERVING)
