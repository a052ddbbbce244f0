"""Proves who calls, before anything of the message is read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from eksgateway.errors import MethodUnknown
from eksgateway.identity.protocol import Identity
from eksgateway.rpc.call import Call
from eksgateway.rpc.methods import Access


class ProveIdentity:
    """Credentials become a Caller; ``open_reflection`` lets reflection through without any."""

    def __init__(self, identity: Identity, *, open_reflection: bool) -> None:
        self._identity = identity
        self._open_reflection = open_reflection

    @asynccontextmanager
    async def around(self, call: Call, context: Any) -> AsyncIterator[None]:  # noqa: ARG002
        if call.method is None:
            raise MethodUnknown
        access = call.method.access
        if access is Access.OPEN or (access is Access.REFLECTION and self._open_reflection):
            yield
            return
        values = [value for key, value in call.metadata if key == "authorization"]
        call.identified = await self._identity.identify(values)
        yield
