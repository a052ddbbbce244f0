"""Measures a reload of a company's policy data in a running gateway: its CPU time, and what it holds up."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import statistics
import tempfile
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc

from bench.policy_data import company, write_yaml
from bench.processes import CHANNEL_OPTIONS, configure, cpu_s, ended_children_cpu_s, run_program
from bench.report import Ratio
from eksgateway.sandbox.issuer import ThrowawayIssuer
from eksgateway.v1 import update_pb2
from eksgateway.v1 import update_service_pb2 as pb
from eksgateway.v1.update_service_pb2_grpc import UpdateServiceStub

_RELOAD_S: Final = 60.0
_CALLERS: Final = 2
_VERSIONS: Final = 5


@dataclass
class Reloading:
    """A running gateway with 10,000 grants, and other versions of its data."""

    process: Process
    address: str
    issuer: ThrowawayIssuer
    data: Path
    versions: list[Path]
    log: Path

    async def reload(self) -> None:
        """Put the next version in force."""
        before = self._loads()
        self.versions.pop().replace(self.data)
        self.process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(_RELOAD_S):
            while self._loads() == before:
                await asyncio.sleep(0.05)

    async def latest_tick(self) -> float:
        """Seconds, since it was last asked."""
        assert self.process.stdout is not None
        self.process.send_signal(signal.SIGUSR1)
        return float(await self.process.stdout.readline())

    def cpu_s(self) -> float:
        """Of the gateway, with its children that have ended."""
        return cpu_s(self.process.pid) + ended_children_cpu_s(self.process.pid)

    def _loads(self) -> int:
        text = self.log.read_text()
        assert "policy.refused" not in text, text
        return text.count('"policy.loaded"')


async def measure_reload() -> float:
    """CPU seconds."""
    async with _run_gateway() as gateway:
        before = gateway.cpu_s()
        await gateway.reload()
        return gateway.cpu_s() - before


async def measure_loop() -> float:
    """By how many milliseconds more the event loop is delayed by a reload than by calls alone.

    The medians, of some reloads and of as long times without one, of the worst delay.
    """
    reloading, calm = [], []
    async with _run_gateway() as gateway, _calls(gateway) as slowest:
        await asyncio.sleep(1)  # until they have begun
        while gateway.versions:
            began = time.monotonic()
            await gateway.latest_tick()
            slowest.pop_ms()
            await gateway.reload()
            took_s, delay_s, call_ms = time.monotonic() - began, await gateway.latest_tick(), slowest.pop_ms()
            reloading.append(delay_s * 1000)
            await asyncio.sleep(took_s)
            calm.append(1000 * await gateway.latest_tick())
            print(
                f"policy_loop: {reloading[-1]:.1f} ms late in a reload of {took_s:.1f} s, slowest call"
                f" {call_ms:.1f} ms; {calm[-1]:.1f} ms without, slowest call {slowest.pop_ms():.1f} ms",
                flush=True,
            )
    return max(0.0, statistics.median(reloading) - statistics.median(calm))


@asynccontextmanager
async def _run_gateway() -> AsyncIterator[Reloading]:
    with tempfile.TemporaryDirectory(prefix="eksgateway-bench-") as folder:
        path, issuer = Path(folder), ThrowawayIssuer("bench")
        config = configure(path, "http://127.0.0.1:1", issuer)
        content = company(50, 200, 0)
        write_yaml(path / "data.yaml", content)
        versions = []
        for number in range(1, _VERSIONS + 1):
            versions.append(path / f"{number}.yaml")
            write_yaml(versions[-1], content | {"grants": content["grants"][number:]})
        log = path / "gateway.log"
        async with run_program("bench.ticking_gateway", str(config), log=log) as (process, address):
            yield Reloading(process, address, issuer, path / "data.yaml", versions, log)


class _Slowest:
    def __init__(self) -> None:
        self._ms = 0.0

    def add_s(self, seconds: float) -> None:
        self._ms = max(self._ms, seconds * 1000)

    def pop_ms(self) -> float:
        slowest, self._ms = self._ms, 0.0
        return slowest


@asynccontextmanager
async def _calls(gateway: Reloading) -> AsyncIterator[_Slowest]:
    """Calls of a caller in many groups, which the policy denies before EKS is asked."""
    slowest = _Slowest()
    groups = [f"team-{number}" for number in range(50)]
    metadata = (("authorization", f"Bearer {gateway.issuer.token('member', groups)}"),)
    request = pb.GetUpdateRequest(cluster=update_pb2.ClusterRef(name="unknown"), update_id="u")

    async def call_again() -> None:
        async with grpc.aio.insecure_channel(gateway.address, options=CHANNEL_OPTIONS) as channel:
            stub: Any = UpdateServiceStub(channel)
            while True:
                began = time.monotonic()
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await stub.GetUpdate(request, metadata=metadata)
                slowest.add_s(time.monotonic() - began)
                await asyncio.sleep(0.005)

    callers = [asyncio.create_task(call_again()) for _ in range(_CALLERS)]
    try:
        yield slowest
    finally:
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)


RATIOS: Final = (
    Ratio("policy_reload", "reload of 10,000 grants, CPU in s", "at most", 5, 3, measure_reload),
    Ratio("policy_loop", "event loop held up by that reload, in ms", "at most", 10, 1, measure_loop),
)
