"""Sends to a client that may have left; what is sent is not known here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from grpc._cython.cygrpc import ExecuteBatchError  # type: ignore[import-not-found]  # public nowhere


async def send(sending: Awaitable[None]) -> None:
    """Finish one send. Raises CancelledError if the client left."""
    try:
        await sending
    except ExecuteBatchError as exc:
        raise asyncio.CancelledError from exc
