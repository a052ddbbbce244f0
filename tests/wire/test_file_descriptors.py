"""A gateway with few file descriptors: strangers cannot take those of calls and ledger."""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from support.gateway_process import GatewayFolder, GatewayProcess, run_gateway_process
from support.simulator import SimulatedEks
from support.waiting import wait_until
from support.wire import PRODUCTION

IDLE = 1100
# HTTP/2's preface and an empty SETTINGS frame. The client then sends nothing.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"


@pytest.fixture
def _room() -> Iterator[None]:
    """Raise the limit for the sockets of this test."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2 * IDLE:
        pytest.skip(f"this machine allows {hard} descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * IDLE), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def events(served: GatewayProcess, name: str) -> list[dict[str, Any]]:
    return [line for line in served.lines if line["event"] == name]


def processor_s(pid: int) -> float:
    """Seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


async def accepts_connection(served: GatewayProcess) -> bool:
    """Whether a new connection is accepted."""
    channel: Any = grpc.aio.insecure_channel(served.address, options=[("grpc.use_local_subchannel_pool", 1)])
    async with channel:
        try:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            await stub.Check(health_pb2.HealthCheckRequest(), timeout=20)
        except grpc.aio.AioRpcError:
            return False
        return True


@pytest.mark.usefixtures("_room")
async def test_cancel_works_beside_more_idle_connections_than_descriptors(
    tmp_path: Path, eks: SimulatedEks
) -> None:
    """One warning, and no busy loop."""
    updates = [eks.rollback(f"prod-{number}", tags=PRODUCTION) for number in range(12)]
    place = GatewayFolder(tmp_path, eks.url)
    async with run_gateway_process(place, shell="ulimit -n 1024") as served:
        await wait_until(lambda: events(served, "health.readiness"))
        await served.cancel("prod-0", updates[0], request_id="first")
        with ExitStack() as stack:
            for _ in range(IDLE):
                one = stack.enter_context(socket.create_connection(served.address.split(":")))  # type: ignore[arg-type]
                one.sendall(PREFACE)
            await wait_until(lambda: events(served, "descriptors.tight"))
            used, lines = processor_s(served.process.pid), len(served.lines)
            for number, update_id in enumerate(updates[1:], 1):
                await served.cancel(f"prod-{number}", update_id)
            await asyncio.sleep(3)  # a busy loop would use processor time meanwhile
            assert processor_s(served.process.pid) - used < 2.5
            assert len(served.lines) - lines < 50
            (tight,) = events(served, "descriptors.tight")
            assert tight["open"] < tight["limit"] == 1024
            # Silent connections are closed for new clients.
            await wait_until(lambda: events(served, "descriptors.eased"))
            assert await accepts_connection(served)
            await served.cancel("prod-0", updates[0], request_id="first")
        assert await served.end() == 0
        assert {call["status"] for call in served.calls} == {"OK"}


async def test_soft_limit_is_raised_to_the_hard_one(tmp_path: Path, eks: SimulatedEks) -> None:
    place = GatewayFolder(tmp_path, eks.url)
    async with run_gateway_process(place, shell="ulimit -Sn 256; ulimit -Hn 3000") as served:
        assert await served.end() == 0
        (limit,) = events(served, "descriptors.limit")
    assert (limit["before"], limit["after"], limit["hard"]) == (256, 3000, 3000)
