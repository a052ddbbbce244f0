"""One address that accepts calls, with its TLS and the credentials it demands."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Final

from eksgateway.addresses import join_address, split_address
from eksgateway.clock import Clock
from eksgateway.rpc.certificates import Certificates
from eksgateway.rpc.grpc_server import make_server
from eksgateway.rpc.interceptors.chain import Chain
from eksgateway.settings import LimitSettings, ListenerSettings, SettingsError

# Bounds the calls of a connection that queue in core, in order of arrival. Core refuses further ones with
# REFUSED_STREAM.
MAX_STREAMS: Final = 100
_OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    ("grpc.so_reuseport", 0),
    ("grpc.max_concurrent_streams", MAX_STREAMS),
    # Core would drop some calls at random above its default of 1,000.
    ("grpc.server.max_pending_requests", 100_000),
    ("grpc.server.max_pending_requests_hard_limit", 100_000),
    ("grpc.server_handshake_timeout_ms", 5_000),
    ("grpc.max_connection_age_grace_ms", 300_000),
    # Pings without calls, from the gateway and from clients; the default is one in two hours.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),  # of the gateway: a health watch may be silent for hours
)
_CONNECTION_AGE_S: Final = 4 * 3600
# SVIDs live for an hour and are renewed after half of it. A connection ends before its certificate expires.
_CERTIFIED_CONNECTION_AGE_S: Final = 20 * 60


@dataclass(eq=False)
class Listener:
    """A grpc server with interceptors of its own; all listeners share the services.

    A call does not show which port it came by, and a server cannot request certificates without requiring
    them. With a server for each listener, no client chooses the credentials that its calls need.
    """

    settings: ListenerSettings
    limits: LimitSettings
    chain: Chain
    clock: Clock
    connections: int

    def __post_init__(self) -> None:
        tls, options = self.settings.tls, _options(self.settings, self.limits, self.connections)
        self.server = make_server(self.chain, options)
        self.port = 0
        self._certificates = Certificates(tls, self.clock) if tls else None
        self._renewal: asyncio.Task[None] | None = None

    @property
    def address(self) -> str:
        """With the bound port."""
        return join_address(split_address(self.settings.address)[0], self.port)

    async def bind(self) -> None:
        """Does not serve yet. Raises SettingsError."""
        address = self.settings.address
        credentials = await self._certificates.load() if self._certificates else None
        try:
            if credentials is None:
                self.port = self.server.add_insecure_port(address)
            else:
                self.port = self.server.add_secure_port(address, credentials)
        except RuntimeError as exc:
            raise SettingsError(
                f"cannot listen on {address}: the address is in use or not this machine's;"
                " set the listener's `address` to a free one, or stop the program that uses it"
            ) from exc

    async def start(self) -> None:
        await self.server.start()
        if self._certificates is not None:
            self._renewal = asyncio.create_task(self._certificates.run())

    async def stop(self, grace: float) -> None:
        """End the calls that are left after ``grace`` seconds."""
        await self.server.stop(grace)
        if self._renewal is not None:
            self._renewal.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._renewal


def _options(listener: ListenerSettings, limits: LimitSettings, connections: int) -> list[tuple[str, int]]:
    metadata_bytes = limits.credentials_bytes + limits.metadata_bytes
    age_s = _CERTIFIED_CONNECTION_AGE_S if listener.requires_certificate else _CONNECTION_AGE_S
    return [
        *_OPTIONS,
        ("grpc.max_connection_age_ms", age_s * 1000),
        ("grpc.max_connection_idle_ms", round(limits.connection_idle_s * 1000)),
        ("grpc.max_allowed_incoming_connections", connections),
        # A tenth shorter, because of jitter.
        ("grpc.http2.min_ping_interval_without_data_ms", round(limits.client_ping_s * 900)),
        ("grpc.keepalive_time_ms", round(limits.keepalive_s * 1000)),
        # In grpc 1.85 grpc.keepalive_timeout_ms ends no connection whose peer acknowledges TCP.
        ("grpc.http2.ping_timeout_ms", round(limits.keepalive_timeout_s * 1000)),
        # Above the gateway's own limits, whose errors carry ErrorInfo.
        ("grpc.max_receive_message_length", 4 * limits.message_bytes),
        ("grpc.max_metadata_size", 4 * metadata_bytes),
        ("grpc.absolute_max_metadata_size", 8 * metadata_bytes),
    ]
