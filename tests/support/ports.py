"""A port for a program that cannot choose one by itself."""

from __future__ import annotations

import socket


def find_free_port() -> int:
    """Another program may take it meanwhile."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
