"""`eksgateway serve`: runs a gateway until SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import gc
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from eksgateway import file_descriptors, logs
from eksgateway.clock import SystemClock
from eksgateway.opening import open_gateway
from eksgateway.settings import load
from eksgateway.signals import on_hangup, run_until, stop_event

if TYPE_CHECKING:
    from eksgateway.gateway import Gateway

# A tenth of Python's default. boto3's threads may hold the GIL for this long whenever the event loop returns
# from waiting, some twenty times per call. In two pairs of runs the ratio `starve` was 9.9 and 15.9 with it,
# 17.4 and 37.3 without.
_SWITCH_S: Final = 0.0005


async def run(config: Path, *, stop_on_stdin_eof: bool) -> None:
    """Serve until SIGTERM, then drain; SIGHUP reloads the policy and the issuers' keys. Prints each
    listener's address once all answer, which is before it is ready: see ``opening``.
    """
    settings = load(config)
    logs.configure()
    sys.setswitchinterval(_SWITCH_S)
    file_descriptors.raise_limit()
    gateway: Gateway | None = None

    async def start() -> None:
        nonlocal gateway
        gateway = await open_gateway(settings)
        await gateway.start()
        for listener in gateway.listeners:
            print(f"Serving gRPC on {listener.address}", flush=True)
        if gateway.edge is not None:
            print(f"Serving HTTP on http://{gateway.edge.address}", flush=True)
        await gateway.become_ready()

    async def make_room() -> None:
        if gateway is not None:
            await gateway.make_room()

    def reload() -> None:
        if gateway is not None:  # before that, the policy is being read anyway
            gateway.reload()

    with stop_event(with_stdin=stop_on_stdin_eof) as stop, on_hangup(reload):
        watching = asyncio.create_task(file_descriptors.watch(settings, SystemClock(), make_room))
        try:
            if await run_until(stop, start()):
                gc.freeze()  # else each full collection pauses all calls for some 60 ms
                gc.enable()
                await stop.wait()
        finally:
            watching.cancel()
            if gateway is not None:
                await gateway.stop()
