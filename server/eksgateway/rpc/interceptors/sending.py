"""Sends to a client that may have stopped reading, or left; what is sent is not known here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from grpc._cython.cygrpc import ExecuteBatchError  # type: ignore[import-not-found]  # public nowhere


async def send(sending: Awaitable[None], timeout: float) -> None:  # noqa: ASYNC109  real time: it bounds a real socket
    """Finish one send. Raises TimeoutError after so many seconds, and CancelledError if the client left."""
    try:
        async with asyncio.timeout(timeout):
            await sending
    except ExecuteBatchError as exc:
        raise asyncio.CancelledError from exc
