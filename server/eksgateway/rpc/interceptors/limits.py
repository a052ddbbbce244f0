"""Bounds the size of metadata, and what all callers together and each caller hold at once."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from eksgateway.errors import Draining, RequestTooLarge
from eksgateway.identity.invalid_credentials import invalid_credentials
from eksgateway.rpc.call import Call
from eksgateway.rpc.context import Metadata, RpcContext
from eksgateway.rpc.interceptors.interceptor import Interceptor
from eksgateway.rpc.methods import Access, Quota
from eksgateway.rpc.quotas import Quotas
from eksgateway.settings import LimitSettings


class Limits(Interceptor):
    """Before authentication. Health and reflection have quotas per connection, apart from other calls."""

    def __init__(self, settings: LimitSettings) -> None:
        self._settings = settings
        self._quotas = Quotas({Quota.CALL: settings.calls, Quota.WATCH: settings.watches})
        # Each connection may always have a health check and a health watch, as gRPC clients do.
        self._quotas_of_connections = Quotas(
            per_key={Quota.CALL: settings.calls_per_caller, Quota.OPEN: settings.open_streams_per_connection},
            total={Quota.CALL: settings.calls, Quota.OPEN: settings.open_streams},
        )
        self._draining = False
        self._in_flight = 0  # calls that a drain waits for
        self._call_ended = asyncio.Event()

    def drain(self) -> None:
        """Refuse new calls."""
        self._draining = True

    async def wait_until_idle(self, timeout: float) -> None:  # noqa: ASYNC109  it returns after the timeout
        """Return once all calls have ended, or after ``timeout`` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while self._in_flight:
                    self._call_ended.clear()
                    await self._call_ended.wait()

    async def enter(self, call: Call, context: RpcContext) -> None:  # noqa: ARG002
        if self._draining and call.access is not Access.OPEN:
            raise Draining
        self._check_sizes(call.metadata)
        if call.access is Access.OPEN or call.quota is Quota.OPEN:
            held = self._quotas_of_connections.acquire(call.peer, call.quota)
        else:
            held = self._quotas.acquire("all", call.quota)
        call.held_quotas.append(held)
        self._in_flight += _delays_drain(call)

    def leave(self, call: Call) -> None:
        call.held_quotas.pop().release()
        self._in_flight -= _delays_drain(call)
        self._call_ended.set()

    def _check_sizes(self, metadata: Metadata) -> None:
        # Oversized credentials are invalid ones: clients would retry RESOURCE_EXHAUSTED.
        credentials = others = 0
        for key, value in metadata:
            if key == "authorization":
                credentials += len(key) + len(value)
            else:
                others += len(key) + len(value)
        if credentials > self._settings.credentials_bytes:
            raise invalid_credentials(
                "size", f"The credentials are over {self._settings.credentials_bytes} bytes."
            )
        if others > self._settings.metadata_bytes:
            raise RequestTooLarge(f"The metadata is over {self._settings.metadata_bytes} bytes.")


class CallerLimits(Interceptor):
    """After authentication."""

    def __init__(self, settings: LimitSettings) -> None:
        self._quotas = Quotas(
            {
                Quota.CALL: settings.calls_per_caller,
                Quota.WATCH: settings.watches_per_caller,
                Quota.OPEN: settings.open_streams,
            }
        )

    async def enter(self, call: Call, context: RpcContext) -> None:  # noqa: ARG002
        if call.verified_caller is not None:
            call.held_quotas.append(self._quotas.acquire(call.verified_caller.id, call.quota))

    def leave(self, call: Call) -> None:
        if call.verified_caller is not None:
            call.held_quotas.pop().release()


def _delays_drain(call: Call) -> bool:
    """Health and reflection streams last as long as their clients like."""
    return call.access not in (Access.OPEN, Access.REFLECTION)
