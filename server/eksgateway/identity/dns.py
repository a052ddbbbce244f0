"""Resolves host names for aiohttp on daemon threads.

aiohttp's own uses the event loop's executor: a silent name server would block its threads and delay the end
of the process.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from eksgateway.blocking import RepeatedRead

Lookup = Callable[..., list[tuple[Any, ...]]]


class DnsResolver:
    """An ``aiohttp.abc.AbstractResolver``; ``lookup`` is ``socket.getaddrinfo``."""

    def __init__(self, lookup: Lookup = socket.getaddrinfo) -> None:
        self._lookup = lookup
        self._lookups: dict[tuple[str, int, int], RepeatedRead[list[tuple[Any, ...]]]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[dict[str, Any]]:
        """Raises OSError."""
        key = (host, port, family)
        if key not in self._lookups:
            self._lookups[key] = RepeatedRead(
                lambda: self._lookup(host, port, family, socket.SOCK_STREAM, 0, socket.AI_ADDRCONFIG)
            )
        try:
            addresses = await self._lookups[key].read()
        except TimeoutError as exc:
            raise socket.gaierror(socket.EAI_AGAIN, "the name server has not answered") from exc
        return [
            {
                "hostname": host,
                "host": address[0],
                "port": address[1],
                "family": family,
                "proto": protocol,
                "flags": socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            }
            for family, _, protocol, _, address in addresses
        ]

    async def close(self) -> None:
        """Each thread ends with its lookup."""
