"""Measures whether a flood starves another caller: its p95 in each flood ÷ its p95 without one."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import statistics
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from bench.flood import Orders
from bench.processes import RARE_POLLS, GatewayProcess, run_gateway
from bench.report import Ratio
from eksgateway.settings import LimitSettings
from eksgateway.v1 import update_pb2
from eksgateway.v1 import update_service_pb2 as pb
from eksgateway.v1.update_service_pb2_grpc import UpdateServiceStub

CANCEL: Final = "/eksgateway.v1.UpdateService/CancelUpdate"
SAMPLES: Final = 40
KEPT_UP_S: Final = 20.0
_DEFAULT_LIMITS: Final = LimitSettings().model_dump()


class OtherCaller:
    """Makes one call at a time, of each kind in turn, over its own connection."""

    def __init__(self, gateway: GatewayProcess, updates: list[tuple[str, str]]) -> None:
        self._credentials = gateway.credentials("other", "oncall")
        self._channel = gateway.channel()
        self._stub = UpdateServiceStub(self._channel)
        self._updates = iter(updates)
        self._read_update = next(self._updates)
        self.failed: list[str] = []

    async def close(self) -> None:
        await self._channel.close()

    async def measure(self, seconds: float = 0.0) -> dict[str, list[float]]:
        """The durations of calls by kind: ``SAMPLES`` of each, or as many as fit into the time."""
        durations: dict[str, list[float]] = {"cancel": [], "get": [], "check": [], "watch": []}
        ends = time.monotonic() + seconds if seconds else float("inf")
        while len(durations["watch"]) < SAMPLES and time.monotonic() < ends:
            for kind, samples in durations.items():
                started = time.monotonic()
                try:
                    await getattr(self, f"_{kind}")()
                except Exception as exc:  # noqa: BLE001  collected: every call must succeed
                    self.failed.append(f"{kind}: {exc}")
                samples.append(time.monotonic() - started)
        return durations

    async def _cancel(self) -> None:
        name, update_id = next(self._updates)
        request = pb.CancelUpdateRequest(**_update_fields(name, update_id), reason="bench")
        await self._stub.CancelUpdate(request, metadata=self._credentials, timeout=60)

    async def _get(self) -> None:
        request = pb.GetUpdateRequest(**_update_fields(*self._read_update))
        await self._stub.GetUpdate(request, metadata=self._credentials, timeout=60)

    async def _check(self) -> None:
        request = pb.CheckCancelUpdateRequest(**_update_fields(*self._read_update))
        await self._stub.CheckCancelUpdate(request, metadata=self._credentials, timeout=60)

    async def _watch(self) -> None:
        request = pb.WatchUpdateRequest(**_update_fields(*self._read_update))
        stream: Any = self._stub.WatchUpdate(request, metadata=self._credentials, timeout=60)
        await stream.read()
        stream.cancel()


def _update_fields(name: str, update_id: str) -> dict[str, Any]:
    return {"cluster": update_pb2.ClusterRef(name=name), "update_id": update_id}


@asynccontextmanager
async def run_flood(orders: Orders) -> AsyncIterator[asyncio.Task[bytes]]:
    """Run a flood. The task returns the flood's counts when it has ended."""
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.flood", stdin=PIPE, stdout=PIPE
    )
    assert program.stdin is not None
    assert program.stdout is not None
    program.stdin.write(json.dumps(dataclasses.asdict(orders)).encode() + b"\n")
    await program.stdout.readline()
    counts = asyncio.create_task(program.stdout.readline())
    try:
        yield counts
        await counts
    finally:
        if program.returncode is None and not counts.done():
            program.kill()
        await program.wait()


async def measure_starvation() -> float:
    """The worst ratio of all floods and kinds of calls. Every call of the other caller must succeed."""
    worst = 0.0
    async with run_gateway(watch=RARE_POLLS, limits=_DEFAULT_LIMITS) as gateway:
        others = [await _update(gateway, f"other-{number}") for number in range(1500)]
        floods = [await _message(gateway, f"flood-{number}") for number in range(300)]
        other = OtherCaller(gateway, others)
        await other.measure(1.0)  # connect and authenticate
        for name, orders in _floods(gateway, floods).items():
            calm = await other.measure()
            async with run_flood(orders) as counts:
                flooded = await other.measure(orders.seconds)
            # A burst is short, so only the slowest call is sure to fall into it.
            slow = _p95 if orders.kept_up else max
            ratios = {kind: slow(flooded[kind]) / _p95(calm[kind]) for kind in calm}
            worst = max(worst, *ratios.values())
            text = ", ".join(f"{kind} {ratio:.1f}" for kind, ratio in ratios.items())
            print(f"  {name}: {text}; calm cancel {_p95(calm['cancel']) * 1000:.0f} ms;", end=" ")
            print(f"{len(flooded['cancel'])} of each; {counts.result().decode().strip()}", flush=True)
        await other.close()
        if other.failed:
            raise RuntimeError(f"{len(other.failed)} calls of the other caller failed: {other.failed[:3]}")
    return worst


def _floods(gateway: GatewayProcess, messages: list[str]) -> dict[str, Orders]:
    denied = gateway.credentials("outsider")[0][1]
    allowed = gateway.credentials("greedy", "oncall")[0][1]
    kinds = {
        "headers of strangers": ("", [], 40_000, 4),
        "strangers": ("", messages, 5000, 2),
        "a denied caller": (denied, messages, 5000, 2),
        "an allowed caller": (allowed, messages, 500, 2),
    }
    floods = {}
    for name, (authorization, sent, calls, connections) in kinds.items():
        for kept_up in (False, True):
            floods[f"{name}, {'kept up' if kept_up else 'one burst'}"] = Orders(
                address=gateway.address,
                path=CANCEL,
                authorization=authorization,
                messages=sent,
                connections=connections,
                calls=calls,
                kept_up=kept_up,
                seconds=KEPT_UP_S if kept_up else 8.0,
            )
    return floods


async def _update(gateway: GatewayProcess, name: str) -> tuple[str, str]:
    return name, await gateway.rollback(name, cancel_delay_s=600_000)


async def _message(gateway: GatewayProcess, name: str) -> str:
    name, update_id = await _update(gateway, name)
    request = pb.CancelUpdateRequest(**_update_fields(name, update_id), reason="bench")
    return request.SerializeToString().hex()


def _p95(seconds: list[float]) -> float:
    return statistics.quantiles(seconds, n=20)[-1] if len(seconds) > 1 else seconds[0]


RATIOS: Final = (
    Ratio("starve", "another caller's p95 in the worst flood ÷ calm", "at most", 10, 1, measure_starvation),
)
