"""Resolves host names for aiohttp, on daemon threads.

The event loop's executor would do it by default: a name server that does not answer would hold its threads,
and the process would wait for them at its end.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from eksgateway.blocking import RepeatedRead

Lookup = Callable[..., list[tuple[Any, ...]]]


class Names:
    """An ``aiohttp.abc.AbstractResolver``; ``lookup`` is ``socket.getaddrinfo``."""

    def __init__(self, lookup: Lookup = socket.getaddrinfo) -> None:
        self._lookup = lookup
        self._lookups: dict[tuple[str, int, int], RepeatedRead[list[tuple[Any, ...]]]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[dict[str, Any]]:
        """The addresses of a host. Raises OSError."""
        key = (host, port, family)
        if key not in self._lookups:
            self._lookups[key] = RepeatedRead(
                lambda: self._lookup(host, port, family, socket.SOCK_STREAM, 0, socket.AI_ADDRCONFIG)
            )
        try:
            found = await self._lookups[key].read()
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
