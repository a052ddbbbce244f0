"""Serves gRPC for the process that started this one."""

from __future__ import annotations

import asyncio
import sys

import grpc


async def serve(server: grpc.aio.Server) -> None:
    """Print the address, and serve on loopback until standard input closes."""
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"Serving on 127.0.0.1:{port}", flush=True)
    await asyncio.to_thread(sys.stdin.read)  # until it closes
    await server.stop(None)
