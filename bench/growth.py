"""Measures what a ledger of a million cancellations costs, beside one of a hundred (``bench.large_ledger``).

Two gateways run side by side and are called in turns. The small ledger has what the first pages hold, because
a page without records would cost nothing.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import grpc
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bench.large_ledger import build, large_ledger
from bench.processes import (
    ACCOUNT,
    POLICY,
    RARE_POLLS,
    REGION,
    GatewayProcess,
    configure,
    run_gateway,
    run_program,
)
from bench.report import Ratio
from eksgateway.sandbox.issuer import ThrowawayIssuer
from eksgateway.v1 import cancellation_service_pb2 as history_pb
from eksgateway.v1 import update_pb2
from eksgateway.v1 import update_service_pb2 as pb
from eksgateway.v1.cancellation_service_pb2_grpc import CancellationServiceStub
from eksgateway.v1.update_service_pb2_grpc import UpdateServiceStub

_SMALL: Final = 100  # cancellations
_WARM_UP: Final = 5  # calls that do not count
_STARTS: Final = 3
_GRANTS: Final = [
    {
        "id": "wide",
        "groups": ["bench:wide"],
        "actions": ["history"],
        "accounts": ["*"],
        "regions": ["*"],
        "clusters": ["*"],
    },
    {
        "id": "narrow",
        "groups": ["bench:narrow"],
        "actions": ["history"],
        "accounts": [ACCOUNT],
        "regions": [REGION],
        "clusters": ["rare-*"],
    },
]
_Call = Callable[[], Awaitable[Any]]


async def measure_cancel() -> float:
    """A lone CancelUpdate, with EKS at 0 ms."""
    async with _run_both() as gateways:
        calls = [await _cancels(gateway, channel, 60) for gateway, channel in gateways]
        return await _compare(calls, 60)


async def measure_get() -> float:
    """GetCancellation by its id and by its request_id: the worse ratio."""
    async with _run_both() as gateways:
        by_id, by_request = list[_Call](), list[_Call]()
        for gateway, channel in gateways:
            stub: Any = CancellationServiceStub(channel)
            metadata = gateway.credentials("rare-1")
            page = await stub.ListCancellations(history_pb.ListCancellationsRequest(), metadata=metadata)
            (found,) = page.cancellations
            for calls, request in (
                (by_id, history_pb.GetCancellationRequest(cancellation_id=found.cancellation_id)),
                (by_request, history_pb.GetCancellationRequest(request_id=found.request_id)),
            ):
                calls.append(_bind(stub.GetCancellation, request, metadata))
        return max([await _compare(calls, 200) for calls in (by_id, by_request)])


async def measure_page() -> float:
    """The first page of ListCancellations: the worst ratio of four callers.

    One may read everything: it gets 50, and one with a filter by cluster. One may read three clusters with a
    cancellation each, and one only its own one; these are among the oldest.
    """
    async with _run_both() as gateways:
        ratios = []
        for subject, group, name in (
            ("auditor", "wide", ""),
            ("auditor", "wide", "rare-1"),
            ("keeper", "narrow", ""),
            ("rare-1", "none", ""),
        ):
            calls = []
            for gateway, channel in gateways:
                stub: Any = CancellationServiceStub(channel)
                cluster = update_pb2.ClusterRef(name=name) if name else None
                request = history_pb.ListCancellationsRequest(cluster=cluster)
                calls.append(_bind(stub.ListCancellations, request, gateway.credentials(subject, group)))
            first, second = [len((await call()).cancellations) for call in calls]
            if not first or first != second:
                raise RuntimeError(f"{subject}: {first} and {second} cancellations")
            ratios.append(await _compare(calls, 60))
        return max(ratios)


async def measure_start() -> float:
    """From the start of the process until its health is SERVING. Both start in turns; medians."""
    with tempfile.TemporaryDirectory(prefix="eksgateway-bench-") as folder:
        issuer = ThrowawayIssuer("bench")
        took: list[list[float]] = [[], []]
        configs = []
        for number, path in enumerate(_ledgers(Path(folder))):
            (Path(folder) / str(number)).mkdir()
            config = configure(
                Path(folder) / str(number), "http://127.0.0.1:1", issuer, ledger={"path": str(path)}
            )
            configs.append(config)
        for _ in range(1 + _STARTS):
            for seconds, config in zip(took, configs, strict=True):
                seconds.append(await _start(config))
        large, small = (statistics.median(each[1:]) for each in took)
        return large / small


async def _start(config: Path) -> float:
    serve = ("eksgateway", "serve", "--config", str(config), "--stop-on-stdin-eof")
    began = time.monotonic()
    async with run_program(*serve) as (_, address), grpc.aio.insecure_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        async for answer in stub.Watch(health_pb2.HealthCheckRequest()):
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                break
        return time.monotonic() - began


def _ledgers(folder: Path) -> tuple[Path, Path]:
    """The large one and a small one."""
    large = large_ledger()
    small = folder / "small.db"
    build(small, _SMALL)
    return large.absolute(), small


@asynccontextmanager
async def _run_both() -> AsyncIterator[list[tuple[GatewayProcess, grpc.aio.Channel]]]:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="eksgateway-bench-")))
        data = folder / "data.yaml"
        grants = [*POLICY["eksgateway"]["grants"], *_GRANTS]
        data.write_text(yaml.safe_dump({"eksgateway": POLICY["eksgateway"] | {"grants": grants}}))
        gateways = []
        for path in _ledgers(folder):
            sections = {"ledger": {"path": str(path)}, "policy": {"data": str(data)}, "watch": RARE_POLLS}
            gateway = await stack.enter_async_context(run_gateway(**sections))
            gateways.append((gateway, await stack.enter_async_context(gateway.channel())))
        yield gateways


def _bind(method: Any, request: Any, metadata: Any) -> _Call:
    return lambda: method(request, metadata=metadata)


async def _cancels(gateway: GatewayProcess, channel: grpc.aio.Channel, count: int) -> _Call:
    """A call that cancels another update each time."""
    stub: Any = UpdateServiceStub(channel)
    metadata = gateway.credentials("oncall", "oncall")
    names = [f"growth-{number}" for number in range(_WARM_UP + count)]
    requests = [
        pb.CancelUpdateRequest(
            cluster=update_pb2.ClusterRef(name=name),
            update_id=await gateway.rollback(name, cancel_delay_s=600_000),
            reason="bench",
        )
        for name in names
    ]
    return lambda: stub.CancelUpdate(requests.pop(), metadata=metadata)


async def _compare(calls: Sequence[_Call], count: int) -> float:
    """The ratio of the median latencies, called in turns."""
    took: list[list[float]] = [[] for _ in calls]
    for number in range(-_WARM_UP, count):
        for call, latencies in zip(calls, took, strict=True):
            began = time.monotonic()
            await call()
            if number >= 0:
                latencies.append(time.monotonic() - began)
            await asyncio.sleep(0)
    large, small = (statistics.median(each) for each in took)
    return large / small


RATIOS: Final = (
    Ratio(
        "growth_cancel",
        "lone CancelUpdate: 1,000,000 in the ledger ÷ 100",
        "at most",
        1.3,
        3,
        measure_cancel,
    ),
    Ratio("growth_get", "the same of GetCancellation", "at most", 1.3, 3, measure_get),
    Ratio("growth_page", "the same of ListCancellations' first page", "at most", 1.5, 3, measure_page),
    Ratio("growth_start", "the same of start to ready", "at most", 1.5, 3, measure_start),
)
