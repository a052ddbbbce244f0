"""`eksgateway.client.Channels`: connections for very many watches, and impossible addresses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509

from eksgateway import client
from eksgateway.client import Channels, Timing
from support.authority import SERVER, Authority, Shape
from support.gateway import RunningGateway, run_gateway
from support.mtls import DATA, build_listeners
from support.simulator import SimulatedEks
from support.tcp_proxy import TcpProxy
from support.waiting import wait_until

QUICK = Timing(first_backoff_s=0.01, longest_backoff_s=0.05)


async def test_channels_open_a_connection_for_each_80_watches(gateway: RunningGateway) -> None:
    """Calls have a connection of their own."""
    update_id = gateway.eks.rollback("staging-1")
    token = gateway.issuer.token("oncall", ("oncall",))
    async with TcpProxy(gateway.address) as proxy, Channels(proxy.address) as channels:
        heard: list[int] = []

        async def watch() -> None:
            states = client.watch(channels, "staging-1", update_id, credentials=lambda: token)
            async with aclosing(states):
                async for known in states:
                    heard.append(known.sequence)  # noqa: PERF401  counted while it grows

        tasks = [asyncio.create_task(watch()) for _ in range(170)]
        await wait_until(lambda: heard.count(1) == 170)
        assert proxy.connections == 3
        await client.cancel(channels, "staging-1", update_id, credentials=lambda: token)
        assert proxy.connections == 4
        gateway.eks.set_update("staging-1", update_id, status="Cancelled")
        await asyncio.wait_for(asyncio.gather(*tasks), 40)


def test_channels_reuse_the_stream_of_an_ended_watch() -> None:

    async def use() -> None:
        async with Channels("127.0.0.1:1") as channels:
            with channels.watching() as first:
                pass
            with channels.watching() as second:
                assert second is first
                assert channels.calls is not second

    asyncio.run(use())


@pytest.mark.parametrize(
    "address",
    [
        *("", "127.0.0.1", "127.0.0.1:", "127.0.0.1:99999", "127.0.0.1:0", "gateway:http", "::1:50051"),
        *("http://127.0.0.1:50051", "https://gateway.example", "a b:1", "gateway.example:50051/"),
    ],
)
def test_channels_refuse_an_address_that_grpc_misreads(address: str) -> None:
    """grpc connects to port 34463 for 99999, and to 443 without a port."""
    with pytest.raises(ValueError, match=r"write it as host:port"):
        Channels(address)


@pytest.mark.parametrize(
    "address", ["127.0.0.1:50051", "[::1]:50051", "gateway:1", "dns:///gateway:50051", "unix:/run/gateway"]
)
def test_channels_accept_addresses_of_grpc(address: str) -> None:
    assert Channels(address).address == address


@dataclass
class Gateways:
    """A gateway with TLS (``secured``), one that demands certificates, and one in plaintext."""

    authority: Authority
    secured: str
    certified: str
    plain: str


@asynccontextmanager
async def run_gateways(path: Path, eks: SimulatedEks) -> AsyncIterator[Gateways]:
    authority = Authority()
    made = [*build_listeners(path, authority, "jwt", "mtls"), {"address": "127.0.0.1:0"}]
    async with run_gateway(path, eks, data=DATA, listeners=made) as gateway:
        yield Gateways(authority, *(each.address for each in gateway.gateway.listeners))


async def read_note(address: str, credentials: grpc.ChannelCredentials | None = None) -> str:
    """The note on the error that ends a watch."""
    async with Channels(address, credentials) as channels:
        states = client.watch(channels, "prod-1", "u-1", timing=QUICK)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await asyncio.wait_for(anext(states), 40)
        note: str = raised.value.__notes__[0]
        return note


TRUST = grpc.ssl_channel_credentials


async def test_impossible_address_ends_the_attempts(tmp_path: Path, eks: SimulatedEks) -> None:
    """With a note that names the correction."""
    async with run_gateways(tmp_path, eks) as served:
        good, other = TRUST(served.authority.certificate), TRUST(Authority("other").certificate)
        assert "CA's" in await read_note(served.secured, other)
        assert "TLS is spoken there" in await read_note(served.secured)
        assert "TLS is spoken there" in await read_note(served.certified)
        assert "no TLS is spoken there" in await read_note(served.plain, good)
        assert "client certificate" in await read_note(served.certified, good)
        assert "PEM" in await read_note(served.secured, TRUST(b"none"))
    assert "name is not known" in await read_note("no-such-host.invalid:50051")


@pytest.mark.parametrize(
    ("shape", "note"),
    [
        (Shape(names=(x509.DNSName("elsewhere.example"),), extended=(SERVER,)), "another name"),
        (Shape(names=(x509.DNSName("localhost"),), extended=(SERVER,), starts_s=-99, ends_s=-9), "expired"),
    ],
    ids=["name", "expired"],
)
async def test_untrusted_certificate_ends_the_attempts(shape: Shape, note: str) -> None:
    authority = Authority()
    issued = authority.issue(shape)
    server = grpc.aio.server()
    pair = grpc.ssl_server_credentials([(issued.key, issued.certificate)])
    port = server.add_secure_port("127.0.0.1:0", pair)
    await server.start()
    try:
        assert note in await read_note(f"127.0.0.1:{port}", TRUST(authority.certificate))
    finally:
        await server.stop(0)


@pytest.mark.parametrize(
    ("greeting", "note"),
    [(b"HTTP/1.1 400 Bad Request\r\n\r\n", "HTTP/1.1"), (b"SSH-2.0-OpenSSH_9\r\n", "something else")],
    ids=["http/1.1", "ssh"],
)
async def test_port_of_another_protocol_ends_the_attempts(greeting: bytes, note: str) -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        assert note in await read_note(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")


async def test_cancel_waits_for_a_gateway_that_starts_later(tmp_path: Path, eks: SimulatedEks) -> None:
    update_id = eks.rollback("staging-1")
    async with run_gateway(tmp_path, eks) as first:
        address, issuer = first.address, first.issuer
    token = issuer.token("oncall", ("oncall",))
    async with Channels(address) as channels:
        coming: Any = asyncio.create_task(
            client.cancel(channels, "staging-1", update_id, credentials=lambda: token, timing=QUICK)
        )
        lost = channels.calls
        await wait_until(lambda: lost.get_state() is grpc.ChannelConnectivity.TRANSIENT_FAILURE)
        async with run_gateway(tmp_path, eks, issuer=issuer, listeners=[{"address": address}]):
            assert (await asyncio.wait_for(coming, 40)).update_id == update_id
