"""Measures many CancelUpdate at once."""

from __future__ import annotations

import asyncio
import sqlite3
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc

from bench.opa_server import require_opa
from bench.processes import RARE_POLLS, GatewayProcess, cpu_s, run_gateway, run_program
from bench.report import Ratio
from eksgateway.v1 import update_pb2
from eksgateway.v1 import update_service_pb2 as pb
from eksgateway.v1.update_service_pb2_grpc import UpdateServiceStub

CONCURRENT: Final = 32
_TURNS: Final = 4
_CANCELS: Final = 200  # of one turn


@dataclass
class Side:
    """One of the two that cancel. The samples are those of its turns."""

    name: str
    pid: int
    channel: grpc.aio.Channel
    rates: list[float] = field(default_factory=list)  # CancelUpdate/s
    costs: list[float] = field(default_factory=list)  # ms of CPU of the process for a cancel

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)

    @property
    def cost(self) -> float:
        return statistics.median(self.costs)

    def __str__(self) -> str:
        return f"{self.name} {self.cost:.1f} ms of CPU, {self.rate:.0f}/s"


@dataclass(frozen=True)
class Glue:
    """A running ``bench.glue``."""

    pid: int
    channel: grpc.aio.Channel
    rows: Path

    def statuses(self) -> Counter[str]:
        """How many rows have each status."""
        with closing(sqlite3.connect(self.rows)) as rows:
            return Counter(dict(rows.execute("SELECT status, count(*) FROM cancels GROUP BY status")))


@asynccontextmanager
async def run_glue(gateway: GatewayProcess) -> AsyncIterator[Glue]:
    """With the gateway's simulated EKS. Raises MissingProgram."""
    require_opa()
    with tempfile.TemporaryDirectory(prefix="eksgateway-bench-") as folder:
        rows = Path(folder) / "rows.db"
        async with (
            run_program("bench.glue", gateway.simulator, str(rows)) as (process, address),
            grpc.aio.insecure_channel(address) as channel,
        ):
            yield Glue(process.pid, channel, rows)


async def measure_cancels() -> float:
    ours, theirs = await _cancel_in_turns()
    return ours.rate / theirs.rate


async def measure_cancels_cpu() -> float:
    """Of the two processes alone: the glue's OPA is one more, and does not count."""
    ours, theirs = await _cancel_in_turns()
    return ours.cost / theirs.cost


async def _cancel_in_turns() -> tuple[Side, Side]:
    """The gateway and the glue, each its own updates, CONCURRENT at once."""
    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(run_gateway(watch=RARE_POLLS))
        glue = await stack.enter_async_context(run_glue(gateway))
        await _check_refusal(gateway, glue)
        channel = await stack.enter_async_context(gateway.channel())
        sides = Side("gateway", gateway.process.pid, channel), Side("glue", glue.pid, glue.channel)
        for turn in range(-1, _TURNS):  # the first warms up
            for side in sides:
                updates = await updates_to_cancel(gateway, f"{side.name}{turn}", _CANCELS)
                await gateway.control("DELETE", "calls")
                before = cpu_s(side.pid)
                took_s = await send_cancels([side.channel], updates, gateway.credentials("oncall", "oncall"))
                if turn >= 0:
                    side.rates.append(_CANCELS / took_s)
                    side.costs.append((cpu_s(side.pid) - before) / _CANCELS * 1e3)
                await check_sent_once(gateway, updates)
        if glue.statuses() != {"InProgress": _CANCELS * (_TURNS + 1)}:
            raise RuntimeError(f"the glue has rows with {glue.statuses()}")
    print(f"{sides[0]} ÷ {sides[1]}", flush=True)
    return sides


async def _check_refusal(gateway: GatewayProcess, glue: Glue) -> None:
    """The glue asks its policy, which does not allow this type."""
    name = "upgrade"
    update_id = await gateway.rollback(name, type="VersionUpdate", node_phase_s=0)
    try:
        await send_cancels([glue.channel], [(name, update_id)], ())
    except grpc.aio.AioRpcError as exc:
        if exc.code() is grpc.StatusCode.PERMISSION_DENIED and not await gateway.calls("CancelUpdate"):
            return
        raise
    raise RuntimeError("the glue did not refuse")


async def updates_to_cancel(gateway: GatewayProcess, prefix: str, count: int) -> list[tuple[str, str]]:
    """Updates, as pairs of their cluster and their id."""
    names = [f"{prefix}-{number}" for number in range(count)]
    return [(name, await gateway.rollback(name, cancel_delay_s=600_000)) for name in names]


async def check_sent_once(gateway: GatewayProcess, updates: list[tuple[str, str]]) -> None:
    """Since the last ``DELETE calls``, each of these was cancelled, and no other."""
    calls = (await gateway.control("GET", "calls"))["calls"]
    sent = sorted(call["update_id"] for call in calls if call["operation"] == "CancelUpdate")
    if sent != sorted(update_id for _, update_id in updates):
        raise RuntimeError("not every cancel was sent once")


async def send_cancels(
    channels: list[grpc.aio.Channel], updates: list[tuple[str, str]], credentials: Any
) -> float:
    """Cancel each update, CONCURRENT at once. Returns seconds."""
    waiting = iter(updates)

    async def work(stub: Any) -> None:
        for name, update_id in waiting:
            cluster = update_pb2.ClusterRef(name=name)
            request = pb.CancelUpdateRequest(cluster=cluster, update_id=update_id, reason="bench")
            await stub.CancelUpdate(request, metadata=credentials)

    stubs = [UpdateServiceStub(channels[each % len(channels)]) for each in range(CONCURRENT)]
    started = time.monotonic()
    await asyncio.gather(*map(work, stubs))
    return time.monotonic() - started


RATIOS: Final = (
    Ratio("cancels", "CancelUpdate/s, 32 under way ÷ the glue", "at least", 0.9, 5, measure_cancels),
    Ratio("cancels_cpu", "CPU of a CancelUpdate ÷ the glue's", "at most", 1.0, 5, measure_cancels_cpu),
)
