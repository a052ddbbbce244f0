"""`eksgateway serve`: the real thing, until it is told to end."""

from __future__ import annotations

import gc
from pathlib import Path

from eksgateway import logs
from eksgateway.app import Gateway, open_gateway
from eksgateway.lifetime import ending, on_hangup, until
from eksgateway.settings import load


async def run(config: Path, *, stop_on_stdin_eof: bool) -> None:
    """Serve until SIGTERM, then drain; SIGHUP reloads the policy. Prints each listener's address once all
    answer.
    """
    settings = load(config)
    logs.configure()
    gateway: Gateway | None = None

    async def start() -> None:
        nonlocal gateway
        gateway = await open_gateway(settings)
        await gateway.start()

    def reload() -> None:
        if gateway is not None:  # else the policy is being read anyway
            gateway.reload()

    with ending(with_stdin=stop_on_stdin_eof) as ended, on_hangup(reload):
        try:
            if await until(ended, start()) and gateway is not None:
                gc.freeze()  # nor later: it would be a pause of a tenth of a second in some call
                gc.enable()
                for listener in gateway.listeners:
                    print(f"Serving gRPC on {listener.address}", flush=True)
                await ended.wait()
        finally:
            if gateway is not None:
                await gateway.stop()
