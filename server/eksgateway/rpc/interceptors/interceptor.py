"""The interface of an interceptor."""

from __future__ import annotations

from abc import ABC, abstractmethod

from eksgateway.rpc.call import Call
from eksgateway.rpc.context import RpcContext


class Interceptor(ABC):
    @abstractmethod
    async def enter(self, call: Call, context: RpcContext) -> None:
        """Raise a GatewayError to refuse the call."""

    def begin_answer(self, call: Call) -> None:  # noqa: B027  most ignore it
        """Called before a stream's first message, and before an error is sent."""

    def leave(self, call: Call) -> None:  # noqa: B027  most have nothing to undo
        """Undo ``enter``; the call has ended."""
