"""Measures the start, to the first answer."""

from __future__ import annotations

import contextlib
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import grpc

from bench.processes import configure, run_program
from bench.report import Ratio
from eksgateway.sandbox.issuer import ThrowawayIssuer
from eksgateway.v1 import update_pb2
from eksgateway.v1 import update_service_pb2 as pb

_MESSAGE: Final = pb.GetUpdateRequest(cluster=update_pb2.ClusterRef(name="prod-1")).SerializeToString()


async def measure_start() -> float:
    """From the start of the process to its first answer: a denial, and an echo."""
    ours = await measure_first_decision()
    bare = await _first_answer(("bench.bare_server",), "/bench.Bare/Echo", ())
    return ours / bare


async def measure_first_decision(**sections: Any) -> float:
    """Seconds from a gateway's second start to its first answer, a denial. ``sections`` override settings."""
    with tempfile.TemporaryDirectory(prefix="eksgateway-bench-") as folder:
        issuer = ThrowawayIssuer("bench")
        config = configure(Path(folder), "http://127.0.0.1:1", issuer, **sections)
        credentials = (("authorization", f"Bearer {issuer.token('outsider')}"),)
        serve = ("eksgateway", "serve", "--config", str(config), "--stop-on-stdin-eof")
        path = "/eksgateway.v1.UpdateService/GetUpdate"
        await _first_answer(serve, path, credentials)  # creates the ledger, and warms the page cache
        return await _first_answer(serve, path, credentials)


async def _first_answer(command: tuple[str, ...], path: str, credentials: Any) -> float:
    started = time.monotonic()
    async with run_program(*command) as (_, address), grpc.aio.insecure_channel(address) as channel:
        call: Any = channel.unary_unary(path)
        with contextlib.suppress(grpc.aio.AioRpcError):  # a denial is an answer
            await call(_MESSAGE, metadata=credentials, timeout=30)
        return time.monotonic() - started


RATIOS: Final = (Ratio("start", "start to first decision ÷ bare server", "at most", 5, 7, measure_start),)
