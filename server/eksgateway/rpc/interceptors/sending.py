"""Sends to a client that may have stopped reading, or left; what is sent is not known here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from grpc._cython.cygrpc import ExecuteBatchError  # type: ignore[import-not-found]  # public nowhere


@asynccontextmanager
async def sending(timeout: float) -> AsyncIterator[None]:  # noqa: ASYNC109  real time: it bounds a real socket
    """Around one send. Raises TimeoutError after so many seconds, and CancelledError if the client left."""
    try:
        async with asyncio.timeout(timeout):
            yield
    except ExecuteBatchError as exc:
        raise asyncio.CancelledError from exc
