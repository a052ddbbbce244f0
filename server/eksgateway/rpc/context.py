"""The part of ``grpc.aio.ServicerContext`` that the gateway uses."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, NoReturn, Protocol, TypeAlias

import grpc
from google.protobuf.message import Message
from grpc._cython.cygrpc import ExecuteBatchError  # type: ignore[import-not-found]  # grpc does not export it

Metadata: TypeAlias = Sequence[tuple[str, str | bytes]]


class RpcContext(Protocol):
    """Messages are raw bytes."""

    def peer(self) -> str: ...
    def invocation_metadata(self) -> Metadata | None: ...
    def auth_context(self) -> Mapping[str, Sequence[bytes]]: ...
    def set_trailing_metadata(self, metadata: Metadata, /) -> None: ...
    async def send_initial_metadata(self, metadata: Metadata, /) -> None: ...
    async def read(self) -> bytes | object: ...  # the object is grpc.aio.EOF
    async def write(self, message: Message, /) -> None: ...
    async def abort(
        self, code: grpc.StatusCode, details: str, trailing_metadata: Metadata, /
    ) -> NoReturn: ...


async def send(sending: Awaitable[Any]) -> None:
    """Raises CancelledError if the client has left."""
    try:
        await sending
    except ExecuteBatchError as exc:
        raise asyncio.CancelledError from exc
