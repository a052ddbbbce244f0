"""Answers are bounded in size and time, and TLS errors name the CA bundle."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from eksgateway.clock import Deadline
from eksgateway.eks.http_sender import HttpSender
from eksgateway.errors import DecisionStale, EksError, EksNoAnswer, EksNotReached, EksUnavailable
from eksgateway.model import ClusterRef, UpdateRef
from support.authority import Authority
from support.boto_eks import ACCOUNT, CALLER, REGION, MakeEks, SkippingClock
from support.clock import NEVER
from support.simulator import SimulatedEks
from support.tcp_proxy import TcpProxy

TOKEN = "6f0b1a52-6d57-4a9e-9a4f-0d5d0a2f8b11"
REF = UpdateRef(ClusterRef(ACCOUNT, REGION, "blue"), "u-1")
LIMIT_S = 0.5
SOON_S = 10.0  # on a loaded machine; each fault below would last longer


async def call_and_time(eks: Any, ref: UpdateRef, operation: str) -> EksError:
    """The error of a call, which must come soon."""
    began = time.monotonic()
    call = eks.describe_update(ref)
    if operation == "CancelUpdate":
        call.close()
        call = eks.cancel_update(ref, on_behalf_of=CALLER, token=TOKEN, send_before=NEVER)
    with pytest.raises(EksError) as raised:
        await call
    assert time.monotonic() - began < SOON_S
    return raised.value


FAULTS: dict[str, dict[str, Any]] = {
    "a drip of a good answer": {"drip_s": 60},
    "a hundred megabytes after a good answer": {"pad_bytes": 100 << 20},
    "a drip of another server": {"drip_s": 60, "body": "x" * 100, "status": 200},
    "a long refusal": {"pad_bytes": 100 << 20, "code": "InvalidStateException"},
}


@pytest.mark.parametrize("operation", ["DescribeUpdate", "CancelUpdate"])
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_an_answer_that_is_too_long_or_too_slow_fails(
    simulated_eks: SimulatedEks, make_eks: MakeEks, fault: dict[str, Any], operation: str
) -> None:
    """The thread is free again, and the next call succeeds."""
    limit = {"read_timeout_s": LIMIT_S, "cancel_read_timeout_s": LIMIT_S} if "drip_s" in fault else {}
    eks = make_eks(threads=1, waiting=1, **limit)  # its size alone ends an answer that is too long
    ref = simulated_eks.ref("blue", simulated_eks.rollback("blue"))
    simulated_eks.fault(operation, **fault)
    error = await call_and_time(eks, ref, operation)
    assert type(error) is (EksNoAnswer if operation == "CancelUpdate" else EksUnavailable)
    assert (await eks.describe_update(ref)).id == ref.update_id


@asynccontextmanager
async def serve_slowly(text: bytes, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """A server that sends this text for any request, one byte at a time, over and over."""
    ended = asyncio.Event()

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while not ended.is_set():
                for byte in text:
                    writer.write(bytes([byte]))
                    await writer.drain()
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(ended.wait(), LIMIT_S / 10)
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        ended.set()


HEADS = {
    "status line": b"HTTP/1.1 200 " + b"O" * 1000,
    "headers": b"HTTP/1.1 200 OK\r\n" + b"x-header: more\r\n" * 50,
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\n \r\n" * 1000,
}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
async def test_the_read_timeout_covers_status_headers_and_body(make_eks: MakeEks, head: bytes) -> None:
    async with serve_slowly(head) as address:
        eks = make_eks(
            endpoint_url=f"http://{address}", read_timeout_s=LIMIT_S, cancel_read_timeout_s=LIMIT_S
        )
        assert type(await call_and_time(eks, REF, "DescribeUpdate")) is EksUnavailable
        assert type(await call_and_time(eks, REF, "CancelUpdate")) is EksNoAnswer


async def test_a_connection_is_reused_unless_its_answer_was_too_long(
    simulated_eks: SimulatedEks, make_eks: MakeEks
) -> None:
    ref = simulated_eks.ref("blue", simulated_eks.rollback("blue"))
    async with TcpProxy(simulated_eks.url.removeprefix("http://")) as proxy:
        eks = make_eks(endpoint_url=f"http://{proxy.address}")
        for fault in ({"code": "InvalidRequestException"}, {"status": 503}):
            await eks.describe_update(ref)
            simulated_eks.fault("DescribeUpdate", **fault)
            await call_and_time(eks, ref, "DescribeUpdate")
        await eks.describe_update(ref)
        assert proxy.connections == 1
        simulated_eks.fault("DescribeUpdate", pad_bytes=100 << 20)
        await call_and_time(eks, ref, "DescribeUpdate")
        await eks.describe_update(ref)
        assert proxy.connections == 2


async def test_an_answer_after_a_103_is_not_read_by_the_next_call(make_eks: MakeEks) -> None:
    """The next call has a connection of its own."""
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            if connections == 1:
                writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n")
                await reader.readuntil(b"\r\n\r\n")
            writer.write(ANSWER if connections > 1 else ANSWER.replace(b"InProgress", b"Successful"))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        eks = make_eks(endpoint_url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", threads=1)
        assert type(await call_and_time(eks, REF, "DescribeUpdate")) is EksUnavailable
        assert (await eks.describe_update(REF)).status == "InProgress"


# -- TLS and proxies -------------------------------------------------------------------------------


@asynccontextmanager
async def serve_tls(authority: Authority, folder: Path, answer: bytes) -> AsyncIterator[str]:
    """A server with a certificate of this authority that sends these bytes for any request."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*authority.server().write(folder))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"


BODY = b'{"update": {"id": "u-1", "status": "InProgress"}}'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)


async def test_a_certificate_error_logs_the_bundle_and_the_reason(
    make_eks: MakeEks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller gets neither, and nothing is sent."""
    authority, bundle = Authority(), tmp_path / "bundle.pem"
    monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
    async with serve_tls(authority, tmp_path, ANSWER) as url:
        for content, why in (
            (None, "No such file or directory"),
            (b"no certificate", "NO_CERTIFICATE_OR_CRL_FOUND"),
            (Authority("another").certificate, "unable to get local issuer certificate"),
        ):
            if content is not None:
                bundle.write_bytes(content)
            for operation in ("DescribeUpdate", "CancelUpdate"):
                error = await call_and_time(make_eks(endpoint_url=url), REF, operation)
                assert type(error) is EksNotReached
                assert f"SSLError ca_bundle={bundle} ({why})" in error.detail
                assert str(bundle) not in error.message
        bundle.write_bytes(authority.certificate)
        assert (await make_eks(endpoint_url=url).describe_update(REF)).status == "InProgress"


async def test_a_certificate_error_names_the_bundle_of_botocore_by_default(
    make_eks: MakeEks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    async with serve_tls(Authority(), tmp_path, ANSWER) as url:
        error = await call_and_time(make_eks(endpoint_url=url), REF, "DescribeUpdate")
    assert "ca_bundle=botocore" in error.detail


async def test_a_certificate_of_another_host_logs_the_bundle(
    make_eks: MakeEks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, bundle = Authority(), tmp_path / "bundle.pem"
    bundle.write_bytes(authority.certificate)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
    async with serve_tls(authority, tmp_path, ANSWER) as url:
        eks = make_eks(endpoint_url=url.replace("127.0.0.1", "localhost"))
        error = await call_and_time(eks, REF, "CancelUpdate")
    assert type(error) is EksNotReached
    assert f"SSLError ca_bundle={bundle}" in error.detail


async def test_an_answer_over_tls_is_bounded(
    make_eks: MakeEks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, bundle = Authority(), tmp_path / "bundle.pem"
    bundle.write_bytes(authority.certificate)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*authority.server().write(tmp_path))
    async with serve_slowly(HEADS["headers"], tls) as address:
        eks = make_eks(endpoint_url=f"https://{address}", read_timeout_s=LIMIT_S)
        assert type(await call_and_time(eks, REF, "DescribeUpdate")) is EksUnavailable


async def test_a_cancel_is_not_sent_late_after_a_slow_connection(
    make_eks: MakeEks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: SkippingClock
) -> None:
    """The clock is checked after DNS, connecting and TLS."""
    authority, bundle = Authority(), tmp_path / "bundle.pem"
    bundle.write_bytes(authority.certificate)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*authority.server().write(tmp_path))

    def serve(listener: socket.socket) -> bytes:
        connection, _ = listener.accept()
        clock.ahead += 60  # while the client waits for TLS
        with tls.wrap_socket(connection, server_side=True) as secured:
            return secured.recv(1000)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        got = asyncio.create_task(asyncio.to_thread(serve, listener))
        eks = make_eks(endpoint_url=f"https://127.0.0.1:{listener.getsockname()[1]}")
        send_before = Deadline.after(clock, 30)
        with pytest.raises(DecisionStale):
            await eks.cancel_update(REF, on_behalf_of=CALLER, token=TOKEN, send_before=send_before)
        assert await got == b""


async def test_a_missing_proxy_is_logged_without_its_password(
    make_eks: MakeEks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No proxy is used for loopback."""
    monkeypatch.setenv("HTTPS_PROXY", "http://user:canary@127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    error = await call_and_time(make_eks(endpoint_url="https://eks.invalid"), REF, "CancelUpdate")
    assert type(error) is EksNotReached
    assert "ProxyConnectionError proxy=127.0.0.1:1" in error.detail
    assert "canary" not in error.detail
    direct = await call_and_time(make_eks(endpoint_url="https://127.0.0.1:1"), REF, "DescribeUpdate")
    assert "EndpointConnectionError" in direct.detail


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/clusters", "https://eks.us-east-1.amazonaws.com/clusters"]
)
def test_send_does_not_wait_between_headers_and_body(url: str) -> None:
    """With Nagle's algorithm each cancel takes 40 ms more."""
    sender = HttpSender(1, 1, 1, None)
    manager: Any = vars(sender._session(url))["_manager"]  # noqa: SLF001  no peer can see the option
    pool = manager.connection_from_url(url)
    try:
        assert (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1) in pool.conn_kw["socket_options"]
    finally:
        sender.close()
