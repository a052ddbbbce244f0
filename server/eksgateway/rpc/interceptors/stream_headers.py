"""Sends to a client that may have left; what is sent is not known here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

from grpc._cython.cygrpc import ExecuteBatchError  # type: ignore[import-not-found]  # public nowhere


async def send(sending: Awaitable[None]) -> None:
    """Finish one send. Raises CancelledError if the client left."""
    try:
        await sending
    except ExecuteBatchError as exc:
        raise asyncio.CancelledError from exc


HEADERS_S = 0.5


class Headers:
    """Sends the headers of a stream once: with its first message, or after ``HEADERS_S`` without one.

    They show a client and a proxy that the stream has begun, however long the first message takes. They
    are not sent earlier because both retry a refused stream only before its headers.
    """

    def __init__(self, context: Any) -> None:
        self._context = context
        self._sending: asyncio.Future[None] | None = None
        self._timer = asyncio.get_running_loop().call_later(HEADERS_S, self._begin)

    async def sent(self) -> None:
        """Return when they are sent. Raises what sending them raised."""
        self._begin()
        assert self._sending is not None  # noqa: S101
        await self._sending

    async def close(self) -> None:
        """Do not begin to send them any more. Headers under way have to be sent before the status is."""
        self._timer.cancel()
        if self._sending is not None:
            await asyncio.wait((self._sending,), timeout=HEADERS_S)
            if self._sending.done() and not self._sending.cancelled():
                self._sending.exception()  # the client has left, and nothing else waits for this

    def _begin(self) -> None:
        self._timer.cancel()
        if self._sending is None:
            self._sending = asyncio.ensure_future(self._context.send_initial_metadata(()))
