"""Measures a lone CancelUpdate: one caller, one cancel at a time."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import boto3
import grpc

from bench.cancels import run_glue
from bench.processes import ACCOUNT, RARE_POLLS, REGION, GatewayProcess, run_gateway
from bench.report import Ratio
from eksgateway.v1 import update_pb2
from eksgateway.v1 import update_service_pb2 as pb
from eksgateway.v1.update_service_pb2_grpc import UpdateServiceStub

_WARM_UP: Final = 3  # cancels that do not count
_Cancel = Callable[[str, str], Awaitable[Any]]


async def measure_beside_glue() -> float:
    """With EKS at 0 ms: the gateway ÷ a service of one's own (``bench.glue``)."""
    async with (
        run_gateway(watch=RARE_POLLS) as gateway,
        run_glue(gateway) as glue,
        gateway.channel() as ours,
    ):
        return await _compare(gateway, _rpc(ours, gateway), _rpc(glue.channel, gateway), cancels=60)


async def measure_at_50_ms() -> float:
    return await _measure_beside_loop(0.05, cancels=20)


async def measure_at_150_ms() -> float:
    return await _measure_beside_loop(0.15, cancels=10)


async def _measure_beside_loop(delay_s: float, cancels: int) -> float:
    """With each EKS call so slow: the gateway ÷ the same three calls by boto3, one after the other."""
    async with run_gateway(watch=RARE_POLLS) as gateway, gateway.channel() as ours:
        eks = boto3.Session(
            aws_access_key_id=f"AKIA{ACCOUNT}", aws_secret_access_key="simulated", region_name=REGION
        ).client("eks", endpoint_url=gateway.simulator)

        def call_three(name: str, update_id: str) -> None:
            eks.describe_cluster(name=name)
            eks.describe_update(name=name, updateId=update_id)
            eks.cancel_update(name=name, updateId=update_id)

        async def loop(name: str, update_id: str) -> None:
            await asyncio.to_thread(call_three, name, update_id)

        await gateway.control("POST", "faults", operation="*", delay_s=delay_s, times=1_000_000)
        return await _compare(gateway, _rpc(ours, gateway), loop, cancels)


def _rpc(channel: grpc.aio.Channel, gateway: GatewayProcess) -> _Cancel:
    stub: Any = UpdateServiceStub(channel)
    metadata = gateway.credentials("oncall", "oncall")

    async def cancel(name: str, update_id: str) -> None:
        cluster = update_pb2.ClusterRef(name=name)
        request = pb.CancelUpdateRequest(cluster=cluster, update_id=update_id, reason="bench")
        await stub.CancelUpdate(request, metadata=metadata)

    return cancel


async def _compare(gateway: GatewayProcess, ours: _Cancel, theirs: _Cancel, cancels: int) -> float:
    """The ratio of the median latencies. The two cancel in turns, each its own updates."""
    took: dict[_Cancel, list[float]] = {ours: [], theirs: []}
    for number in range(-_WARM_UP, cancels):
        for each, latencies in took.items():
            name = f"lone{number}-{each is ours}"
            update_id = await gateway.rollback(name, cancel_delay_s=600_000)
            began = time.monotonic()
            await each(name, update_id)
            if number >= 0:
                latencies.append(time.monotonic() - began)
    if await gateway.calls("CancelUpdate") != 2 * (cancels + _WARM_UP):
        raise RuntimeError("a cancel was not sent once")
    return statistics.median(took[ours]) / statistics.median(took[theirs])


RATIOS: Final = (
    Ratio("lone0", "a lone CancelUpdate ÷ the glue", "at most", 1.0, 5, measure_beside_glue),
    Ratio("lone50", "the same at 50 ms to EKS ÷ boto3 loop", "at most", 0.75, 3, measure_at_50_ms),
    Ratio("lone150", "the same at 150 ms to EKS ÷ boto3 loop", "at most", 0.72, 3, measure_at_150_ms),
)
