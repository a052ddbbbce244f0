"""A JWK set behind a URL: one HTTP GET, through a proxy if configured, bounded in time and in size."""

from __future__ import annotations

import os
import socket
import ssl
import zlib
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from eksgateway.blocking import run_blocking
from eksgateway.identity.dns import DnsResolver, Lookup
from eksgateway.identity.jwks_sources import MAX_BYTES, FileSource, SourceError
from eksgateway.identity.proxies import proxy_for

if TYPE_CHECKING:
    import aiohttp

_MAX_TOKEN_BYTES: Final = 65_536
_MAX_CA_BYTES: Final = 1_048_576
_WBITS: Final = {"gzip": 31, "x-gzip": 31, "deflate": 15}
_RAW_DEFLATE: Final = -15  # some servers send this for `deflate`


@dataclass(frozen=True, slots=True)
class JwksEndpoint:
    """A URL, the CAs to trust there, and the bearer token to send there."""

    url: str
    ca_file: Path | None = None
    token_file: Path | None = None


class UrlSource:
    """Follows no redirect: keys only come from the configured URL, and the token is sent to no other host.

    The CA file and the token file are read for each fetch, so they may be replaced at any time.
    """

    followed = False

    def __init__(self, endpoint: JwksEndpoint, timeout_s: float, lookup: Lookup = socket.getaddrinfo) -> None:
        self._url = endpoint.url
        self._timeout_s = timeout_s
        self._resolver = DnsResolver(lookup)
        self._ca = FileSource(endpoint.ca_file, _MAX_CA_BYTES) if endpoint.ca_file else None
        self._token = FileSource(endpoint.token_file, _MAX_TOKEN_BYTES) if endpoint.token_file else None

    async def read(self) -> bytes:
        # Imported here because it takes a third of a second.
        aiohttp: Any = await run_blocking(import_module, "aiohttp")
        tls, headers, proxy = await self._tls(), await self._headers(), self._proxy()
        timeout = aiohttp.ClientTimeout(total=self._timeout_s)
        try:
            async with (
                aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(resolver=self._resolver),
                    timeout=timeout,
                    cookie_jar=aiohttp.DummyCookieJar(),
                    auto_decompress=False,
                ) as session,
                session.get(
                    self._url, headers=headers, ssl=tls, proxy=proxy, allow_redirects=False
                ) as response,
            ):
                return await _read_body(response)
        except TimeoutError as exc:
            raise SourceError(f"did not answer within {self._timeout_s:g} s") from exc
        except (aiohttp.ClientError, OSError) as exc:
            raise SourceError(f"could not be fetched: {_describe(exc)}") from exc

    def _proxy(self) -> str | None:
        try:
            return proxy_for(self._url, os.environ)
        except ValueError as exc:
            raise SourceError(f"could not be fetched: {exc}") from exc

    async def _tls(self) -> ssl.SSLContext | bool:
        """True means the machine's trust store."""
        if self._ca is None:
            return True
        return await run_blocking(_make_tls_context, await self._ca.read())

    async def _headers(self) -> dict[str, str]:
        headers = {"Accept": "application/jwk-set+json, application/json", "Accept-Encoding": "gzip, deflate"}
        if self._token is not None:
            token = (await self._token.read()).strip().decode("ascii", "replace")
            if not token or not token.isascii() or not token.isprintable():
                raise SourceError("could not be fetched: the token file holds no token")
            headers["Authorization"] = f"Bearer {token}"
        return headers


def _make_tls_context(pem: bytes) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cadata=pem.decode("ascii", "ignore"))
    except ssl.SSLError as exc:
        raise SourceError("could not be fetched: the CA file holds no PEM certificate") from exc


async def _read_body(response: aiohttp.ClientResponse) -> bytes:
    if 300 <= response.status < 400:
        host = _host(response.headers.get("Location", ""))
        to = f" to {host}" if host else ""
        raise SourceError(f"redirects{to} (status {response.status}), which is not followed")
    if response.status != 200:
        raise SourceError(f"answered with status {response.status}")
    body = b""
    async for chunk in response.content.iter_chunked(65_536):
        body += chunk
        _check_size(body)
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    return body if encoding in {"", "identity"} else _decompress(body, encoding)


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _decompress(body: bytes, encoding: str) -> bytes:
    """Decompress at most one byte more than the bound."""
    if encoding not in _WBITS:
        raise SourceError("has a content encoding that was not requested")
    wbits = _WBITS[encoding]
    if encoding == "deflate" and (body[:1] or b"\0")[0] & 0x0F != 8:  # no zlib header (RFC 1950)
        wbits = _RAW_DEFLATE
    decompressor = zlib.decompressobj(wbits)
    try:
        content = decompressor.decompress(body, MAX_BYTES + 1)
    except zlib.error as exc:
        raise SourceError(f"is not valid {encoding}") from exc
    _check_size(content)
    if not decompressor.eof:
        raise SourceError(f"is truncated {encoding}")
    return content


def _check_size(content: bytes) -> None:
    if len(content) > MAX_BYTES:
        raise SourceError(f"is larger than {MAX_BYTES} bytes")


def _describe(exc: BaseException) -> str:
    """Never shows a URL, which may contain a password."""
    certificate = getattr(exc, "certificate_error", None)
    if isinstance(certificate, ssl.SSLCertVerificationError):
        text = certificate.verify_message
    elif status := getattr(exc, "status", 0):
        text = f"status {status}"
    else:
        cause = getattr(exc, "os_error", exc)
        text = (cause.strerror or "") if isinstance(cause, OSError) else ""
    return f"{type(exc).__name__}: {text}" if text else type(exc).__name__
