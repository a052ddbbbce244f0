"""`eksgateway serve`: the real thing, until it is told to end."""

from __future__ import annotations

from pathlib import Path

from eksgateway import logs
from eksgateway.app import open_gateway
from eksgateway.lifetime import ending
from eksgateway.settings import load


async def run(config: Path, *, stop_on_stdin_eof: bool) -> None:
    """Serve until SIGTERM, then drain. Prints the address once it answers."""
    settings = load(config)
    logs.configure()
    with ending(with_stdin=stop_on_stdin_eof) as ended:
        gateway = await open_gateway(settings)
        try:
            await gateway.start()
            host = settings.listen.rpartition(":")[0]
            print(f"Serving gRPC on {host}:{gateway.port}", flush=True)
            await ended.wait()
        finally:
            await gateway.stop()
