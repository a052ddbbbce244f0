"""Measures unary calls, with h2load and with grpc.aio, and the start."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import struct
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import boto3
import grpc
from botocore.config import Config

from bench.processes import ACCOUNT, RARE_POLLS, REGION, GatewayProcess, configure, run_gateway, run_program
from bench.report import MissingProgram
from eksgateway.sandbox.issuer import ThrowawayIssuer
from eksgateway.v1 import update_pb2
from eksgateway.v1 import update_service_pb2 as pb
from eksgateway.v1.update_service_pb2_grpc import UpdateServiceStub


async def h2load(address: str, path: str, message: bytes, credentials: Any, seconds: int) -> float:
    """Calls per second of one method, over four connections with 25 concurrent calls each."""
    if shutil.which("h2load") is None:
        raise MissingProgram("h2load is not installed: apt-get install nghttp2-client")
    with tempfile.NamedTemporaryFile() as body:
        body.write(b"\0" + struct.pack(">I", len(message)) + message)
        body.flush()
        headers = ["content-type: application/grpc", "te: trailers"]
        headers += [f"{key}: {value}" for key, value in credentials]
        process = await asyncio.create_subprocess_exec(
            "h2load",
            *("-c", "4", "-m", "25", "-t", "1", "-D", str(seconds), "--warm-up-time", "1"),
            *("-d", body.name),
            *(part for header in headers for part in ("-H", header)),
            f"http://{address}{path}",
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
    match = re.search(r"finished in .*?, ([0-9.]+) req/s", out.decode())
    if match is None:
        raise RuntimeError(out.decode())
    return float(match[1])


# -- Denied calls/s ÷ bare echo calls/s -------------------------------------------------------------


async def measure_denied() -> float:
    """An outsider's GetUpdate, denied before EKS is read, ÷ an echo of the same message."""
    message = pb.GetUpdateRequest(
        cluster=update_pb2.ClusterRef(name="prod-1"), update_id="3f1c1d0a-6a1e-4c7c-9d3b-000000000000"
    ).SerializeToString()
    async with run_gateway() as gateway, run_program("bench.bare_server") as (_, bare):
        outsider = gateway.credentials("outsider")
        echoes = await h2load(bare, "/bench.Bare/Echo", message, outsider, 5)
        path = "/eksgateway.v1.UpdateService/GetUpdate"
        denials = await h2load(gateway.address, path, message, outsider, 5)
        assert await gateway.calls() == 0
    return denials / echoes


# -- CancelUpdate/s ÷ a plain boto3 loop of the same three calls -------------------------------------

CANCELS: Final = 600


async def measure_cancels() -> float:
    """Each call cancels its own update. The loop runs with its best number of threads."""
    async with run_gateway(watch=RARE_POLLS) as gateway:
        best = 0.0
        for threads in (1, 4, 8, 16):
            updates = await updates_to_cancel(gateway, f"loop{threads}")
            best = max(best, CANCELS / await asyncio.to_thread(_loop, gateway.simulator, updates, threads))
        updates = await updates_to_cancel(gateway, "gateway")
        await gateway.control("DELETE", "calls")
        ours = CANCELS / await send_cancels([gateway], updates)
        if await gateway.calls("CancelUpdate") != CANCELS:
            raise RuntimeError("the gateway did not forward every cancel once")
    return ours / best


async def updates_to_cancel(gateway: GatewayProcess, prefix: str) -> list[tuple[str, str]]:
    """CANCELS updates, as pairs of their cluster and their id."""
    names = [f"{prefix}-{number}" for number in range(CANCELS)]
    return [(name, await gateway.rollback(name, cancel_delay_s=600_000)) for name in names]


def _loop(url: str, updates: list[tuple[str, str]], threads: int) -> float:
    eks = boto3.Session(
        aws_access_key_id=f"AKIA{ACCOUNT}", aws_secret_access_key="simulated", region_name=REGION
    ).client("eks", endpoint_url=url, config=Config(max_pool_connections=threads))

    def cancel(update: tuple[str, str]) -> None:
        name, update_id = update
        eks.describe_cluster(name=name)
        eks.describe_update(name=name, updateId=update_id)
        eks.cancel_update(name=name, updateId=update_id)

    with ThreadPoolExecutor(threads) as pool:
        started = time.monotonic()
        for _ in pool.map(cancel, updates):
            pass
        return time.monotonic() - started


async def send_cancels(gateways: list[GatewayProcess], updates: list[tuple[str, str]]) -> float:
    """Cancel each update with one of 32 concurrent callers, as a service would. Returns seconds."""
    waiting = iter(updates)
    metadata = gateways[0].credentials("oncall", "oncall")
    async with AsyncExitStack() as stack:
        channels = [await stack.enter_async_context(gateway.channel()) for gateway in gateways]

        async def work(stub: Any) -> None:
            for name, update_id in waiting:
                cluster = update_pb2.ClusterRef(name=name)
                request = pb.CancelUpdateRequest(cluster=cluster, update_id=update_id, reason="bench")
                await stub.CancelUpdate(request, metadata=metadata)

        started = time.monotonic()
        await asyncio.gather(*(work(UpdateServiceStub(channels[each % len(channels)])) for each in range(32)))
        return time.monotonic() - started


# -- Start to first decision ÷ start of a bare server -----------------------------------------------


_MESSAGE: Final = pb.GetUpdateRequest(cluster=update_pb2.ClusterRef(name="prod-1")).SerializeToString()


async def measure_start() -> float:
    """From the start of the process to its first answer: a denial, and an echo."""
    ours = await measure_first_decision()
    bare = await _first_answer(("bench.bare_server",), "/bench.Bare/Echo", _MESSAGE, ())
    return ours / bare


async def measure_first_decision(**sections: Any) -> float:
    """Seconds from a gateway's second start to its first answer, a denial. ``sections`` override settings."""
    with tempfile.TemporaryDirectory(prefix="eksgateway-bench-") as folder:
        issuer = ThrowawayIssuer("bench")
        config = configure(Path(folder), "http://127.0.0.1:1", issuer, **sections)
        credentials = (("authorization", f"Bearer {issuer.token('outsider')}"),)
        serve = ("eksgateway", "serve", "--config", str(config), "--stop-on-stdin-eof")
        path = "/eksgateway.v1.UpdateService/GetUpdate"
        await _first_answer(
            serve, path, _MESSAGE, credentials
        )  # creates the ledger, and warms the page cache
        return await _first_answer(serve, path, _MESSAGE, credentials)


async def _first_answer(command: tuple[str, ...], path: str, message: bytes, credentials: Any) -> float:
    started = time.monotonic()
    async with run_program(*command) as (_, address), grpc.aio.insecure_channel(address) as channel:
        call: Any = channel.unary_unary(path)
        with contextlib.suppress(grpc.aio.AioRpcError):  # a denial is an answer
            await call(message, metadata=credentials, timeout=30)
        return time.monotonic() - started
