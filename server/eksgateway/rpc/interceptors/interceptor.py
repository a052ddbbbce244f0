"""What every interceptor is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from eksgateway.rpc.call import Call


class Interceptor(ABC):
    """One concern of every call."""

    @abstractmethod
    async def admit(self, call: Call, context: Any) -> None:
        """Let the call go on; raise a GatewayError to refuse it.

        ``context`` is grpc.aio's ServicerContext.
        """

    def begin_stream(self, call: Call) -> None:  # noqa: B027  likewise
        """The call streams its answer from now on, for as long as its client likes."""

    def leave(self, call: Call) -> None:  # noqa: B027  most have nothing to undo
        """Undo what ``admit`` did: the call it let through has ended, and says how."""
