"""Sends the headers of a stream."""

from __future__ import annotations

import asyncio
from typing import Final

from eksgateway.rpc.context import RpcContext

HEADERS_S: Final = 0.5


class StreamHeaders:
    """Sends the headers once: with the first message, or after ``HEADERS_S`` without one.

    Not earlier, because clients and proxies retry a refused stream only before its headers.
    """

    def __init__(self, context: RpcContext) -> None:
        self._context = context
        self._sending: asyncio.Future[None] | None = None
        self._timer = asyncio.get_running_loop().call_later(HEADERS_S, self.send)

    async def close(self) -> None:
        """If sending has begun, it must end before the status is sent."""
        self._timer.cancel()
        if self._sending is not None:
            await asyncio.wait((self._sending,), timeout=HEADERS_S)
            if self._sending.done() and not self._sending.cancelled():
                self._sending.exception()  # retrieved, or asyncio would log it

    def send(self) -> asyncio.Future[None]:
        self._timer.cancel()
        if self._sending is None:
            self._sending = asyncio.ensure_future(self._context.send_initial_metadata(()))
        return self._sending
