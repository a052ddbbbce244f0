"""Fetching keys with private CAs, tokens, redirects and proxies."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from eksgateway.identity.jwks_sources import SourceError
from eksgateway.identity.jwks_url import JwksEndpoint, UrlSource
from support.authority import LOOPBACK, SERVER, Authority, Shape, replace
from support.hanging_file import hang_reads
from support.jwks_server import JwksAnswer, JwksServer

HOST = "idp.corp.example"
KEYS = b'{"keys":[]}'


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
async def server(authority: Authority, tmp_path: Path) -> AsyncIterator[JwksServer]:
    """An HTTPS server with a certificate of a private CA, for loopback and HOST."""
    issued = authority.issue(Shape(names=(LOOPBACK, x509.DNSName(HOST)), extended=(SERVER,)))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*issued.write(tmp_path))
    async with JwksServer.running(KEYS, context) as server:
        yield server


@pytest.fixture
def ca(authority: Authority, tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    path.write_bytes(authority.certificate)
    return path


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


async def test_private_ca_is_trusted_where_configured(server: JwksServer, ca: Path) -> None:
    """Without it the error has the TLS library's reason."""
    assert await UrlSource(JwksEndpoint(server.url, ca), 5).read() == KEYS
    with pytest.raises(SourceError, match=r"Certificate.*: (self-signed|unable to get local issuer)"):
        await UrlSource(JwksEndpoint(server.url), 5).read()


async def test_ca_file_is_read_for_each_fetch(server: JwksServer, ca: Path, authority: Authority) -> None:
    """It replaces the machine's CAs."""
    source = UrlSource(JwksEndpoint(server.url, ca), 5)
    replace(ca, Authority("other").certificate)
    with pytest.raises(SourceError, match="Certificate"):
        await source.read()
    replace(ca, b"nothing")
    with pytest.raises(SourceError, match="the CA file holds no PEM certificate"):
        await source.read()
    missing = ca.with_name("missing.pem")
    with pytest.raises(SourceError, match=r"missing\.pem: No such file"):
        await UrlSource(JwksEndpoint(server.url, missing), 5).read()
    replace(ca, Authority("other").certificate + authority.certificate)
    assert await source.read() == KEYS


async def test_token_file_is_read_for_each_fetch(server: JwksServer, ca: Path, tmp_path: Path) -> None:
    """Kubernetes renews the token of a service account in its file."""
    token = tmp_path / "token"
    source = UrlSource(JwksEndpoint(server.url, ca, token), 5)
    for content in (b"first.token", b"second.token\n"):
        replace(token, content)
        await source.read()
    sent = [headers.get("Authorization") for headers in server.headers]
    assert sent == ["Bearer first.token", "Bearer second.token"]


@pytest.mark.parametrize("content", [b"", b"\n", b"two\nlines", "tökën".encode(), b"x" * 70_000])
async def test_token_file_without_a_token_is_an_error(
    server: JwksServer, ca: Path, tmp_path: Path, content: bytes
) -> None:
    """No request is sent, and the error does not repeat the file's content."""
    token = tmp_path / "token"
    token.write_bytes(content)
    with pytest.raises(SourceError, match="token") as refused:
        await UrlSource(JwksEndpoint(server.url, ca, token), 5).read()
    assert "two" not in str(refused.value)
    assert server.fetches == 0


async def test_hanging_token_file_times_out(server: JwksServer, ca: Path, tmp_path: Path) -> None:
    """The event loop is not blocked."""
    token = tmp_path / "token"
    with hang_reads(token):
        reading = asyncio.create_task(UrlSource(JwksEndpoint(server.url, ca, token), 5).read())
        for _ in range(5):
            await asyncio.sleep(0)
        with pytest.raises(SourceError, match="has not answered"):
            await reading


async def test_redirect_is_an_error_that_names_the_host(server: JwksServer, ca: Path, tmp_path: Path) -> None:
    """The token is sent to no other host."""
    token = tmp_path / "token"
    token.write_bytes(b"a.token")
    async with JwksServer.running(KEYS) as elsewhere:
        location = elsewhere.url.replace("127.0.0.1", "localhost")
        server.answer = JwksAnswer(status=302, headers={"Location": f"{location}?secret=1"})
        with pytest.raises(
            SourceError, match=r"^redirects to localhost \(status 302\), which is not followed$"
        ):
            await UrlSource(JwksEndpoint(server.url, ca, token), 5).read()
        assert elsewhere.fetches == 0


@pytest.mark.parametrize("location", ["", "/keys", "http://[::1/keys", "http://a:b"])
async def test_redirect_without_a_host_is_an_error(server: JwksServer, ca: Path, location: str) -> None:
    server.answer = JwksAnswer(status=301, headers={"Location": location})
    with pytest.raises(SourceError, match=r"^redirects (to a )?\(status 301\)"):
        await UrlSource(JwksEndpoint(server.url, ca), 5).read()


class Proxy:
    """A CONNECT proxy on loopback that connects every host to one port."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = ""
        self.wait_for_requests: list[tuple[str, dict[str, str]]] = []
        self.refuses = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://user:secret@127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server:
            yield

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
        self.wait_for_requests.append((head[0], dict(line.split(": ", 1) for line in head[1:] if line)))
        if self.refuses:
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            writer.close()
            return
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        there, back = await asyncio.open_connection("127.0.0.1", self.port)
        await asyncio.gather(self._pump(reader, back), self._pump(there, writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(65_536):
                writer.write(chunk)
        except ConnectionError:
            pass
        finally:
            writer.close()


@pytest.fixture
async def proxy(server: JwksServer) -> AsyncIterator[Proxy]:
    proxy = Proxy(server.port)
    async with proxy.running():
        yield proxy


async def test_keys_are_fetched_through_the_proxy_of_the_environment(
    server: JwksServer, proxy: Proxy, ca: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proxy gets the host's name and its own password, not the token. Loopback and NO_PROXY bypass it."""
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    token = tmp_path / "token"
    token.write_bytes(b"a.token")
    url = f"https://{HOST}:{server.port}/keys"
    source = UrlSource(JwksEndpoint(url, ca, token), 5)
    assert await source.read() == KEYS
    ((line, headers),) = proxy.wait_for_requests
    assert line.startswith(f"CONNECT {HOST}:{server.port} ")
    assert "a.token" not in repr(proxy.wait_for_requests)
    assert headers["Proxy-Authorization"].startswith("Basic ")
    await UrlSource(JwksEndpoint(server.url, ca), 5).read()
    assert len(proxy.wait_for_requests) == 1
    monkeypatch.setenv("NO_PROXY", "corp.example")
    with pytest.raises(SourceError, match="could not be fetched"):
        await source.read()
    assert len(proxy.wait_for_requests) == 1


async def test_refusal_by_a_proxy_has_its_status(
    proxy: Proxy, ca: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No error contains the proxy's password."""
    proxy.refuses = True
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    with pytest.raises(SourceError, match="ClientHttpProxyError: status 407") as refused:
        await UrlSource(JwksEndpoint(f"https://{HOST}/keys", ca), 5).read()
    monkeypatch.setenv("HTTPS_PROXY", "socks5://user:secret@127.0.0.1:1")
    with pytest.raises(SourceError, match="HTTPS_PROXY is not an http or https URL") as other:
        await UrlSource(JwksEndpoint(f"https://{HOST}/keys", ca), 5).read()
    assert "secret" not in f"{refused.value}{other.value}"


async def test_each_address_of_a_host_is_tried(server: JwksServer, ca: Path) -> None:
    """An unknown name is a DNS error."""
    url = f"https://{HOST}:{server.port}/keys"

    def lookup(host: str, port: int, *_: int) -> list[tuple[Any, ...]]:
        assert (host, port) == (HOST, server.port)
        stream = socket.SOCK_STREAM
        return [
            (socket.AF_INET6, stream, 6, "", ("::1", port, 0, 0)),
            (socket.AF_INET, stream, 6, "", ("127.0.0.1", port)),
        ]

    assert await UrlSource(JwksEndpoint(url, ca), 5, lookup).read() == KEYS
    with pytest.raises(SourceError, match="could not be fetched: ClientConnectorDNSError: "):
        await UrlSource(JwksEndpoint("https://no-such-host.invalid/keys"), 5).read()


async def test_hanging_name_server_blocks_no_other_threads() -> None:
    """Each fetch times out."""
    answer = threading.Event()

    def lookup(*_: Any) -> list[tuple[Any, ...]]:
        answer.wait(60)
        return []

    try:
        for number in range(20):
            with pytest.raises(SourceError, match=r"did not answer within 0\.05 s"):
                await UrlSource(JwksEndpoint(f"https://{number}.{HOST}/keys"), 0.05, lookup).read()
        async with asyncio.timeout(10):
            await asyncio.to_thread(threading.get_ident)
    finally:
        answer.set()
