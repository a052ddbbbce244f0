"""Measures what a unary call costs the gateway over HTTP, against gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import aiohttp

from bench.processes import GatewayProcess, cpu_s, run_gateway
from bench.report import Ratio
from eksgateway.v1 import update_pb2
from eksgateway.v1 import update_service_pb2 as pb
from eksgateway.v1.update_service_pb2_grpc import UpdateServiceStub

CALLS: Final = 2000
CALLERS: Final = 8
FRESH_FACTS: Final = {"facts_max_age_s": 3600}  # no call reads EKS


async def measure_unary() -> float:
    """The gateway's CPU time for a GetUpdate in JSON by HTTP ÷ by gRPC."""
    async with run_gateway(http={"listen": "127.0.0.1:0"}, watch=FRESH_FACTS) as gateway:
        url = await _read_http_address(gateway)
        update_id = await gateway.rollback("prod-1")
        metadata = gateway.credentials("oncall", "oncall")
        request = pb.GetUpdateRequest(cluster=update_pb2.ClusterRef(name="prod-1"), update_id=update_id)
        body = {"cluster": {"name": "prod-1"}, "updateId": update_id}
        async with gateway.channel() as channel, aiohttp.ClientSession(url, headers=dict(metadata)) as http:
            stub: Any = UpdateServiceStub(channel)

            async def by_grpc() -> None:
                await stub.GetUpdate(request, metadata=metadata)

            async def by_http() -> None:
                path = "/eksgateway.v1.UpdateService/GetUpdate"
                async with http.post(path, json=body, raise_for_status=True) as answer:
                    await answer.read()

            for warm in (by_grpc, by_http):
                await _cpu_seconds(gateway.process.pid, warm, 100)
            grpc_s = await _cpu_seconds(gateway.process.pid, by_grpc, CALLS)
            http_s = await _cpu_seconds(gateway.process.pid, by_http, CALLS)
    print(f"http {http_s / CALLS * 1e6:.0f} µs of CPU ÷ grpc {grpc_s / CALLS * 1e6:.0f} µs", flush=True)
    return http_s / grpc_s


async def _read_http_address(gateway: GatewayProcess) -> str:
    assert gateway.process.stdout is not None
    return (await gateway.process.stdout.readline()).decode().split()[-1]


async def _cpu_seconds(pid: int, call: Callable[[], Awaitable[None]], calls: int) -> float:
    waiting = iter(range(calls))

    async def work() -> None:
        for _ in waiting:
            await call()

    before = cpu_s(pid)
    await asyncio.gather(*(work() for _ in range(CALLERS)))
    return cpu_s(pid) - before


RATIOS: Final = (Ratio("http", "CPU of a call in JSON by HTTP ÷ by gRPC", "at most", 2, 5, measure_unary),)
