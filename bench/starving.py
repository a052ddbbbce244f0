"""Whether a flood starves another caller: its p95 in each flood ÷ its calm p95."""

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
from typing import Any

from bench.flood import Orders
from bench.place import Place, place
from eksgateway.settings import LimitSettings
from eksgateway.v1 import update_pb2
from eksgateway.v1 import update_service_pb2 as pb
from eksgateway.v1.update_service_pb2_grpc import UpdateServiceStub

CANCEL = "/eksgateway.v1.UpdateService/CancelUpdate"
SAMPLES = 40
KEPT_UP_S = 20.0
_LIMITS = LimitSettings().model_dump()  # the defaults


class Other:
    """The other caller: one call after the other, of each kind in turn, over a connection of its own."""

    def __init__(self, here: Place, updates: list[tuple[str, str]]) -> None:
        self._credentials = here.credentials("other", "oncall")
        self._channel = here.channel()
        self._stub = UpdateServiceStub(self._channel)
        self._updates = iter(updates)
        self._looked_at = next(self._updates)
        self.failed: list[str] = []

    async def close(self) -> None:
        await self._channel.close()

    async def measure(self, seconds: float = 0.0) -> dict[str, list[float]]:
        """Seconds that each call took, by kind: ``SAMPLES`` of each, or as many as fit into the time."""
        took: dict[str, list[float]] = {"cancel": [], "get": [], "check": [], "watch": []}
        ends = time.monotonic() + seconds if seconds else float("inf")
        while len(took["watch"]) < SAMPLES and time.monotonic() < ends:
            for kind, samples in took.items():
                started = time.monotonic()
                try:
                    await getattr(self, f"_{kind}")()
                except Exception as exc:  # noqa: BLE001  counted: every call must succeed
                    self.failed.append(f"{kind}: {exc}")
                samples.append(time.monotonic() - started)
        return took

    async def _cancel(self) -> None:
        name, update_id = next(self._updates)
        request = pb.CancelUpdateRequest(**_about(name, update_id), reason="bench")
        await self._stub.CancelUpdate(request, metadata=self._credentials, timeout=60)

    async def _get(self) -> None:
        request = pb.GetUpdateRequest(**_about(*self._looked_at))
        await self._stub.GetUpdate(request, metadata=self._credentials, timeout=60)

    async def _check(self) -> None:
        request = pb.CheckCancelUpdateRequest(**_about(*self._looked_at))
        await self._stub.CheckCancelUpdate(request, metadata=self._credentials, timeout=60)

    async def _watch(self) -> None:
        request = pb.WatchUpdateRequest(**_about(*self._looked_at))
        stream: Any = self._stub.WatchUpdate(request, metadata=self._credentials, timeout=60)
        await stream.read()
        stream.cancel()


def _about(name: str, update_id: str) -> dict[str, Any]:
    return {"cluster": update_pb2.ClusterRef(name=name), "update_id": update_id}


@asynccontextmanager
async def flooding(orders: Orders) -> AsyncIterator[asyncio.Task[bytes]]:
    """A flood under way; the task is done when it has ended, with what it counted."""
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.flood", stdin=PIPE, stdout=PIPE
    )
    assert program.stdin is not None
    assert program.stdout is not None
    program.stdin.write(json.dumps(dataclasses.asdict(orders)).encode() + b"\n")
    await program.stdout.readline()
    counted = asyncio.create_task(program.stdout.readline())
    try:
        yield counted
        await counted
    finally:
        if program.returncode is None and not counted.done():
            program.kill()
        await program.wait()


async def starve() -> float:
    """The worst ratio of all floods and kinds of calls. Raises RuntimeError if the other's calls failed."""
    seldom = {"poll_s": 600, "poll_min_s": 600, "poll_max_s": 600, "follow_s": 600}
    worst = 0.0
    async with place(watch=seldom, limits=_LIMITS) as here:
        others = [await _update(here, f"other-{number}") for number in range(1500)]
        floods = [await _message(here, f"flood-{number}") for number in range(300)]
        other = Other(here, others)
        await other.measure(1.0)  # connect, and be known
        for name, orders in _floods(here, floods).items():
            calm = await other.measure()
            async with flooding(orders) as counted:
                flooded = await other.measure(orders.seconds)
            # A burst is over soon, so its slowest call counts: most of the others come after it.
            slow = _p95 if orders.kept_up else max
            ratios = {kind: slow(flooded[kind]) / _p95(calm[kind]) for kind in calm}
            worst = max(worst, *ratios.values())
            shown = ", ".join(f"{kind} {ratio:.1f}" for kind, ratio in ratios.items())
            print(f"  {name}: {shown}; calm cancel {_p95(calm['cancel']) * 1000:.0f} ms;", end=" ")
            print(f"{len(flooded['cancel'])} of each; {counted.result().decode().strip()}", flush=True)
        await other.close()
        if other.failed:
            raise RuntimeError(f"{len(other.failed)} calls of the other caller failed: {other.failed[:3]}")
    return worst


def _floods(here: Place, messages: list[str]) -> dict[str, Orders]:
    denied = here.credentials("outsider")[0][1]
    allowed = here.credentials("greedy", "oncall")[0][1]
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
                address=here.address,
                path=CANCEL,
                authorization=authorization,
                messages=sent,
                connections=connections,
                calls=calls,
                kept_up=kept_up,
                seconds=KEPT_UP_S if kept_up else 8.0,
            )
    return floods


async def _update(here: Place, name: str) -> tuple[str, str]:
    return name, await here.rollback(name, cancel_delay_s=600_000)


async def _message(here: Place, name: str) -> str:
    name, update_id = await _update(here, name)
    request = pb.CancelUpdateRequest(**_about(name, update_id), reason="bench")
    return request.SerializeToString().hex()


def _p95(seconds: list[float]) -> float:
    return statistics.quantiles(seconds, n=20)[-1] if len(seconds) > 1 else seconds[0]
