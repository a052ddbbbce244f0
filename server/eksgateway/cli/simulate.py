"""`eksgateway simulate`: a simulated EKS alone."""

from __future__ import annotations

import asyncio
import math

from eksgateway.addresses import is_loopback
from eksgateway.settings import SettingsError
from eksgateway.simulator import serve


def run(host: str, port: int, speed: float, *, allow_remote: bool, stop_on_stdin_eof: bool) -> None:
    """Serve until SIGTERM or SIGINT. Raises SettingsError for options that cannot be used."""
    if not 0 < speed < math.inf:
        raise SettingsError(f"--speed {speed:g}: must be a number above 0")
    if not allow_remote and not is_loopback(host):
        raise SettingsError(
            f"--host {host}: is not loopback, and a simulated EKS obeys every client that reaches it;"
            " add --allow-remote if that is intended"
        )
    serving = serve(host, port, speed, allow_remote=allow_remote, stop_on_stdin_eof=stop_on_stdin_eof)
    try:
        asyncio.run(serving)
    except OSError as exc:
        raise SettingsError(f"cannot listen on {host}:{port}: {exc.strerror}") from exc
