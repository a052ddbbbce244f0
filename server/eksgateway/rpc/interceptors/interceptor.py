"""The interface of an interceptor."""

from __future__ import annotations

from abc import ABC, abstractmethod

from eksgateway.rpc.call import Call
from eksgateway.rpc.context import RpcContext


class Interceptor(ABC):
    """One concern of every call."""

    @abstractmethod
    async def enter(self, call: Call, context: RpcContext) -> None:
        """Let the call in, or refuse it by raising a GatewayError."""

    def begin_stream(self, call: Call) -> None:  # noqa: B027  most ignore it
        """Called before a stream's first message; the stream may last as long as its client likes."""

    def leave(self, call: Call) -> None:  # noqa: B027  most have nothing to undo
        """Undo ``enter``. The call has ended, with ``call.status``."""
