"""One address on which calls come in, with its TLS and its demand."""

from __future__ import annotations

import asyncio
import contextlib

import grpc

from eksgateway.addresses import join_address, split_address
from eksgateway.clock import Clock
from eksgateway.rpc.certificates import Certificates
from eksgateway.rpc.grpc_server import make_server
from eksgateway.settings import LimitSettings, ListenerSettings, SettingsError

# Calls that core has not handed over yet queue in order of arrival, whoever sent them. The bound on streams
# bounds that queue for each connection; core itself refuses what is beyond it, with REFUSED_STREAM.
MAX_STREAMS = 100
# Above 1,000 pending calls core would drop some at random.
_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.so_reuseport", 0),
    ("grpc.max_concurrent_streams", MAX_STREAMS),
    ("grpc.server.max_pending_requests", 100_000),
    ("grpc.server.max_pending_requests_hard_limit", 100_000),
    ("grpc.server_handshake_timeout_ms", 5_000),
    ("grpc.max_connection_age_grace_ms", 300_000),
    # Pings without calls: our own, and those that clients may send; without it they could in two hours each.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),  # for our own: a watch of health may be silent for hours
)
_CONNECTION_AGE_S = 4 * 3600
# SVIDs live for an hour, and are renewed when half of it is left: so a connection ends, and its
# client comes back with a newer certificate, before the one it was made with has expired.
_CERTIFIED_CONNECTION_AGE_S = 20 * 60


class Listener:
    """A grpc server of its own, over the servicers that all listeners share.

    A certificate cannot be asked for without being required, and a call cannot see which port it came
    in by. So each listener has its own server with its own interceptors, and with them its own
    identity: which demand a call must meet follows from the socket that accepted its connection, and
    from nothing that a client sends.
    """

    def __init__(
        self,
        settings: ListenerSettings,
        limits: LimitSettings,
        interceptor: grpc.aio.ServerInterceptor,
        clock: Clock,
        *,
        connections: int,
    ) -> None:
        self.settings = settings
        self.server = make_server((interceptor,), _options(settings, limits, connections))
        self.port = 0
        self._certificates = Certificates(settings.tls, clock) if settings.tls else None
        self._keeping: asyncio.Task[None] | None = None

    @property
    def address(self) -> str:
        """host:port, as bound."""
        return join_address(split_address(self.settings.address)[0], self.port)

    async def bind(self) -> None:
        """Take the port, and serve nothing yet. Raises SettingsError."""
        address = self.settings.address
        credentials = await self._certificates.read() if self._certificates else None
        try:
            if credentials is None:
                self.port = self.server.add_insecure_port(address)
            else:
                self.port = self.server.add_secure_port(address, credentials)
        except RuntimeError as exc:
            raise SettingsError(
                f"cannot listen on {address}: the address is in use or not this machine's;"
                " set the listener's `address` to a free one, or stop what holds it"
            ) from exc

    async def start(self) -> None:
        """Serve, and keep the certificate renewed."""
        await self.server.start()
        if self._certificates is not None:
            self._keeping = asyncio.create_task(self._certificates.keep())

    async def stop(self, grace: float) -> None:
        """Refuse connections, and end what is left after so many seconds."""
        await self.server.stop(grace)
        if self._keeping is not None:
            self._keeping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeping


def _options(listener: ListenerSettings, limits: LimitSettings, connections: int) -> list[tuple[str, int]]:
    metadata_bytes = limits.credentials_bytes + limits.metadata_bytes
    age_s = _CONNECTION_AGE_S if listener.demand == "jwt" else _CERTIFIED_CONNECTION_AGE_S
    return [
        *_OPTIONS,
        ("grpc.max_connection_age_ms", age_s * 1000),
        ("grpc.max_connection_idle_ms", round(limits.connection_idle_s * 1000)),
        ("grpc.max_allowed_incoming_connections", connections),
        # A ping that was sent in time may come a little earlier after the one before.
        ("grpc.http2.min_ping_interval_without_data_ms", round(limits.client_ping_s * 900)),
        ("grpc.keepalive_time_ms", round(limits.keepalive_s * 1000)),
        # Not grpc.keepalive_timeout_ms, which in 1.85 ends no connection whose peer acknowledges TCP.
        ("grpc.http2.ping_timeout_ms", round(limits.keepalive_timeout_s * 1000)),
        # Core's own size limits are four times ours, so that our answer carries its ErrorInfo.
        ("grpc.max_receive_message_length", 4 * limits.message_bytes),
        ("grpc.max_metadata_size", 4 * metadata_bytes),
        ("grpc.absolute_max_metadata_size", 8 * metadata_bytes),
    ]
