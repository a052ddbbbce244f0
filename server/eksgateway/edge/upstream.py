"""The way from the edge into the gateway: a listener on a socket of this process.

Identity, policy, limits and the access log are those of every listener.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import grpc

from eksgateway.edge.methods import Method
from eksgateway.edge.request import CallHeaders
from eksgateway.rpc.grpc_server import make_server
from eksgateway.rpc.interceptors.chain import Chain

_SERVER_OPTIONS: Final = (
    ("grpc.max_receive_message_length", -1),  # the edge bounds bodies
    ("grpc.max_metadata_size", 1 << 20),  # and HTTP headers; the interceptors have the limits
    ("grpc.absolute_max_metadata_size", 1 << 21),
    ("grpc.server.max_pending_requests", 100_000),
    ("grpc.server.max_pending_requests_hard_limit", 100_000),
    ("grpc.max_connection_idle_ms", 2**31 - 1),
)
_CHANNEL_OPTIONS: Final = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.absolute_max_metadata_size", 1 << 20),
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
)


class Upstream:
    """Calls a gRPC server with binary messages."""

    def __init__(self) -> None:
        self._channel: grpc.aio.Channel | None = None
        self._methods: dict[str, Any] = {}

    def connect(self, address: str) -> None:
        self._channel = grpc.aio.insecure_channel(address, options=_CHANNEL_OPTIONS)

    def call(self, method: Method, request: bytes, headers: CallHeaders) -> Any:
        """A call of grpc.aio with one answer."""
        return self._callable(method)(request, metadata=headers.metadata, timeout=headers.timeout)

    async def open(self, method: Method, request: bytes, headers: CallHeaders) -> Any:
        """A call of grpc.aio with a stream of answers, and the request sent."""
        call = self._callable(method)(metadata=headers.metadata, timeout=headers.timeout)
        try:
            await call.write(request)
            await call.done_writing()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            pass  # it has ended already: reading raises its status
        except BaseException:
            call.cancel()
            raise
        return call

    def _callable(self, method: Method) -> Any:
        found = self._methods.get(method.path)
        if found is None:
            channel: Any = self._channel
            # As if requests were streams too: grpc.aio would drop headers that come with the status.
            make = channel.stream_stream if method.streams else channel.unary_unary
            found = self._methods[method.path] = make(method.path)
        return found

    async def start(self) -> None: ...

    async def stop(self, grace: float) -> None:
        """End the calls that are left after ``grace`` seconds. Each gets its status."""

    async def close(self) -> None:
        if self._channel is not None:
            await self._channel.close()


class InternalListener(Upstream):
    """The gateway in this process. The services are added to ``server``; ``calls`` is how many there are at
    once.
    """

    def __init__(self, chain: Chain, calls: int) -> None:
        super().__init__()
        options = (*_SERVER_OPTIONS, ("grpc.max_concurrent_streams", calls))
        self.server = make_server(chain, options)
        self._folder: Path | None = None

    async def start(self) -> None:
        address = self._choose_address()
        self.server.add_insecure_port(address)
        await self.server.start()
        self.connect(address)

    async def stop(self, grace: float) -> None:
        await self.server.stop(grace)

    async def close(self) -> None:
        await super().close()
        if self._folder is not None:
            with contextlib.suppress(OSError):
                shutil.rmtree(self._folder)

    def _choose_address(self) -> str:
        if sys.platform == "linux":  # needs no folder, which a read-only container has none for
            return f"unix-abstract:eksgateway-{secrets.token_urlsafe(18)}"
        self._folder = Path(tempfile.mkdtemp(prefix="eksgateway-"))  # mode 0700
        return f"unix:{self._folder / 'edge'}"
