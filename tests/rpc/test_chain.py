"""The order in which interceptors take part in a call."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from eksgateway.rpc.call import Call
from eksgateway.rpc.interceptors.chain import Chain
from eksgateway.rpc.interceptors.interceptor import Interceptor
from eksgateway.settings import LimitSettings


class Aborted(Exception):
    """As grpc's AbortError."""


class Context:
    """Of a call with an empty message."""

    def __init__(self, events: list[str]) -> None:
        self._events = events

    def peer(self) -> str:
        return "ipv4:127.0.0.1:40000"

    def invocation_metadata(self) -> tuple[()]:
        return ()

    def set_trailing_metadata(self, metadata: object) -> None:
        """Dropped by ``abort``."""

    async def read(self) -> bytes:
        return b""

    async def abort(self, code: grpc.StatusCode, _details: str, _trailing_metadata: object) -> None:
        self._events.append(code.name)
        raise Aborted


class Noting(Interceptor):
    def __init__(self, events: list[str]) -> None:
        self._events = events

    async def enter(self, call: Call, context: Any) -> None:  # noqa: ARG002
        self._events.append("enter")

    def begin_answer(self, call: Call) -> None:  # noqa: ARG002
        self._events.append("begin answer")

    def leave(self, call: Call) -> None:
        self._events.append(f"leave {call.status}")


async def test_interceptors_are_called_before_an_error_is_sent() -> None:
    """So a refused call holds no seat while its error is on its way."""
    events: list[str] = []
    chain = Chain(before=(Noting(events),), after=(), limits=LimitSettings(), write_timeout=60)
    handler: Any = chain.wrap("/unknown", None)
    with pytest.raises(Aborted):
        await handler.stream_unary(None, Context(events))
    assert events == ["enter", "begin answer", "UNIMPLEMENTED", "leave UNIMPLEMENTED"]
