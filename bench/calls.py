"""Measures unary calls that the policy denies, and those that it allows."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from typing import Any, Final

import grpc

from bench.h2load import Server, load_in_turns
from bench.processes import run_gateway, run_program
from bench.report import Ratio
from eksgateway.v1 import update_pb2
from eksgateway.v1 import update_service_pb2 as pb

_GET_UPDATE: Final = "/eksgateway.v1.UpdateService/GetUpdate"
_CALLERS: Final = 4


async def measure_denied() -> float:
    """An outsider's GetUpdate, denied before EKS is read, ÷ a bare handler that refuses."""
    ours, theirs = await _load_denied("bench.bare_refusal", "/bench.Bare/Refuse")
    return ours.cost / theirs.cost


async def measure_denied_rate() -> float:
    ours, theirs = await _load_denied("bench.bare_server", "/bench.Bare/Echo")
    return ours.rate / theirs.rate


async def _load_denied(baseline: str, path: str) -> tuple[Server, Server]:
    message = _message("prod-1", "3f1c1d0a-6a1e-4c7c-9d3b-000000000000")
    async with run_gateway() as gateway, run_program(baseline) as (bare, address):
        outsider = gateway.credentials("outsider")
        ours = Server(gateway.process.pid, gateway.address, _GET_UPDATE)
        theirs = Server(bare.pid, address, path)
        if path.endswith("Refuse"):
            refusals = [await _refusal(each, message, outsider) for each in (ours, theirs)]
            if refusals[0] != refusals[1]:
                raise RuntimeError(f"the baseline refuses otherwise: {refusals}")
        await load_in_turns(ours, theirs, message, [outsider])
        if await gateway.calls() != 0:
            raise RuntimeError("EKS was read for a denied call")
    return ours, theirs


async def _refusal(server: Server, message: bytes, credentials: Any) -> tuple[Any, ...]:
    """Its status, and the names and sizes of its trailers."""
    async with grpc.aio.insecure_channel(server.address) as channel:
        call: Any = channel.unary_unary(server.path)
        try:
            await call(message, metadata=credentials)
        except grpc.aio.AioRpcError as exc:
            trailers = [(key, len(value)) for key, value in exc.trailing_metadata() or ()]
            return exc.code(), exc.details(), trailers
    raise RuntimeError(f"{server.path} did not refuse")


async def measure_get() -> float:
    """One update, read by four callers at once, ÷ an echo of the same request."""
    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(run_gateway())
        bare, address = await stack.enter_async_context(run_program("bench.bare_server"))
        message = _message("prod-1", await gateway.rollback("prod-1"))
        ours = Server(gateway.process.pid, gateway.address, _GET_UPDATE)
        theirs = Server(bare.pid, address, "/bench.Bare/Echo")
        callers = [gateway.credentials(f"oncall-{number}", "oncall") for number in range(_CALLERS)]
        began = time.monotonic()
        await load_in_turns(ours, theirs, message, callers)
        most = 10 + (time.monotonic() - began)
        if (calls := await gateway.calls()) > most:
            raise RuntimeError(f"EKS got {calls} calls for one update, over one a second")
    return ours.rate / theirs.rate


def _message(cluster: str, update_id: str) -> bytes:
    request = pb.GetUpdateRequest(cluster=update_pb2.ClusterRef(name=cluster), update_id=update_id)
    return request.SerializeToString()


RATIOS: Final = (
    Ratio("denied", "CPU of a denied call ÷ bare refusal", "at most", 1.8, 5, measure_denied),
    Ratio("denied_rate", "denied calls/s ÷ bare echo", "at least", 0.33, 5, measure_denied_rate),
    Ratio("get", "GetUpdate/s of one update ÷ bare echo", "at least", 0.33, 5, measure_get),
)
