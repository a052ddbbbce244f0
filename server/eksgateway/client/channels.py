"""Connections to one gateway."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Self

import grpc

from eksgateway.client.addresses import AddressFault, check_address, probe_tls

# Find a dead connection before a cancel's deadline. The gateway permits a ping every 10 s. In grpc
# 1.85 ``grpc.keepalive_timeout_ms`` alone does not bound the wait for a ping's answer.
CHANNEL_OPTIONS: Final = (
    ("grpc.keepalive_time_ms", 15_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.max_reconnect_backoff_ms", 5_000),
)
# A connection carries 100 calls. grpc queues further ones without an error.
WATCHES_PER_CHANNEL: Final = 80


class Channels:
    """Channels to a gateway: one for calls, and one more for every 80 watches. Its context closes them.

    ``address`` is host:port or a gRPC target with a scheme (``dns:///host:port``). Without ``credentials``
    (from grpc.ssl_channel_credentials) it connects in plaintext. Raises ValueError for a malformed address.
    """

    def __init__(
        self,
        address: str,
        credentials: grpc.ChannelCredentials | None = None,
        options: Sequence[tuple[str, Any]] = (),
    ) -> None:
        self.address = check_address(address)
        self._credentials = credentials
        # Without a pool of their own, channels with the same arguments share one connection.
        self._options = (*CHANNEL_OPTIONS, ("grpc.use_local_subchannel_pool", 1), *options)
        self._calls: grpc.aio.Channel | None = None
        self._watches: list[grpc.aio.Channel] = []
        self._streams: Counter[int] = Counter()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        opened = [*self._watches, *([self._calls] if self._calls else [])]
        self._calls, self._watches = None, []
        await asyncio.gather(*(channel.close() for channel in opened))

    @property
    def calls(self) -> grpc.aio.Channel:
        """For calls other than watches, also by your own stubs."""
        self._calls = self._calls or self._open()
        return self._calls

    @property
    def connected(self) -> bool:
        """Whether a connection stands. A call that timed out without one has reached nothing."""
        opened = [*self._watches, *([self._calls] if self._calls else [])]
        return any(each.get_state() is grpc.ChannelConnectivity.READY for each in opened)

    @contextmanager
    def watching(self) -> Iterator[grpc.aio.Channel]:
        """A channel with room for one more stream, reserved until the context ends."""
        index = next((i for i in range(len(self._watches)) if self._streams[i] < WATCHES_PER_CHANNEL), None)
        if index is None:
            index = len(self._watches)
            self._watches.append(self._open())
        self._streams[index] += 1
        try:
            yield self._watches[index]
        finally:
            self._streams[index] -= 1

    async def find_fault(self) -> AddressFault:
        """Without a text if the gateway may just be unavailable."""
        protocol = await probe_tls(self.address)
        if self._credentials is None and protocol:
            text = "TLS is spoken there, and this connects in plaintext: give the gateway's CA bundle"
            return AddressFault(text, certain=True)
        if self._credentials is not None and protocol == "closed":
            text = (
                "connections are closed after the TLS handshake: if the gateway demands a client certificate,"
                " give one that its client CA has issued, with its key"
            )
            return AddressFault(text, certain=False)
        return AddressFault("", certain=False)

    def _open(self) -> grpc.aio.Channel:
        if self._credentials is None:
            return grpc.aio.insecure_channel(self.address, options=self._options)
        return grpc.aio.secure_channel(self.address, self._credentials, options=self._options)
