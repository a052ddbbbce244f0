"""Resolves host names for aiohttp, on threads of its own.

The event loop's executor would do it by default: a name server that does not answer then holds the few
threads on which everything else is parsed, and the end of the process waits for them.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from eksgateway.file_reader import Reader

Lookup = Callable[..., list[tuple[Any, ...]]]


class Names:
    """An ``aiohttp.abc.AbstractResolver``; ``lookup`` is ``socket.getaddrinfo``."""

    def __init__(self, lookup: Lookup = socket.getaddrinfo) -> None:
        self._lookup = lookup
        self._readers: dict[tuple[str, int, int], Reader[list[tuple[Any, ...]]]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[dict[str, Any]]:
        """The addresses of a host. Raises OSError."""
        key = (host, port, family)
        if key not in self._readers:
            self._readers[key] = Reader(
                lambda: self._lookup(host, port, family, socket.SOCK_STREAM, 0, socket.AI_ADDRCONFIG)
            )
        try:
            found = await self._readers[key].read()
        except TimeoutError as exc:
            raise socket.gaierror(socket.EAI_AGAIN, "the name server has not answered") from exc
        return [
            {
                "hostname": host,
                "host": address[0],
                "port": address[1],
                "family": kind,
                "proto": protocol,
                "flags": socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            }
            for kind, _, protocol, _, address in found
        ]

    async def close(self) -> None:
        """Nothing to release: the threads end with their lookups."""
