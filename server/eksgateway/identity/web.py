"""A JWK set behind a URL: one HTTP GET, through a proxy if there is one, bounded in time and in size."""

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
from eksgateway.identity.names import Lookup, Names
from eksgateway.identity.proxies import proxy_for
from eksgateway.identity.sources import MAX_BYTES, FileSource, SourceError

if TYPE_CHECKING:
    import aiohttp

_MAX_TOKEN_BYTES: Final = 65_536
_MAX_CA_BYTES: Final = 1_048_576
_WBITS: Final = {"gzip": 31, "x-gzip": 31, "deflate": 15}
_RAW_DEFLATE: Final = -15  # what some servers send for `deflate`


@dataclass(frozen=True, slots=True)
class Address:
    """A URL, and the files that are needed there: the CAs to trust, and the token to send."""

    url: str
    ca_file: Path | None = None
    token_file: Path | None = None


class UrlSource:
    """An HTTP GET that follows no redirect: the operator alone names who may give keys.

    The CA file and the token file are read for each fetch, so they may be replaced at any time. The token
    goes to the URL's own host and nowhere else.
    """

    followed = False

    def __init__(self, address: Address, timeout_s: float, lookup: Lookup = socket.getaddrinfo) -> None:
        self._url = address.url
        self._timeout_s = timeout_s
        self._names = Names(lookup)
        self._ca = FileSource(address.ca_file, _MAX_CA_BYTES) if address.ca_file else None
        self._token = FileSource(address.token_file, _MAX_TOKEN_BYTES) if address.token_file else None

    async def read(self) -> bytes:
        # It takes a third of a second, which a gateway whose keys are in a file saves.
        aiohttp: Any = await run_blocking(import_module, "aiohttp")
        tls, headers, proxy = await self._tls(), await self._headers(), self._proxy()
        timeout = aiohttp.ClientTimeout(total=self._timeout_s)
        try:
            async with (
                aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(resolver=self._names),
                    timeout=timeout,
                    cookie_jar=aiohttp.DummyCookieJar(),
                    auto_decompress=False,
                ) as session,
                session.get(
                    self._url, headers=headers, ssl=tls, proxy=proxy, allow_redirects=False
                ) as response,
            ):
                return await _document(response)
        except TimeoutError as exc:
            raise SourceError(f"did not answer within {self._timeout_s:g} s") from exc
        except (aiohttp.ClientError, OSError) as exc:
            raise SourceError(f"could not be fetched: {_why(exc)}") from exc

    def _proxy(self) -> str | None:
        try:
            return proxy_for(self._url, os.environ)
        except ValueError as exc:
            raise SourceError(f"could not be fetched: {exc}") from exc

    async def _tls(self) -> ssl.SSLContext | bool:
        """What the server's certificate must come from; True is the machine's own trust store."""
        if self._ca is None:
            return True
        pem = await self._ca.read()
        return await run_blocking(_trusting, pem)

    async def _headers(self) -> dict[str, str]:
        headers = {
            "Accept": "application/jwk-set+json, application/json",
            "Accept-Encoding": "gzip, deflate",
        }
        if self._token is not None:
            token = (await self._token.read()).strip().decode("ascii", "replace")
            if not token or not token.isascii() or not token.isprintable():
                raise SourceError("could not be fetched: the token file holds no token")
            headers["Authorization"] = f"Bearer {token}"
        return headers


def _trusting(pem: bytes) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cadata=pem.decode("ascii", "ignore"))
    except ssl.SSLError as exc:
        raise SourceError("could not be fetched: the CA file holds no PEM certificate") from exc


async def _document(response: aiohttp.ClientResponse) -> bytes:
    if 300 <= response.status < 400:
        host = _host(response.headers.get("Location", ""))
        to = f" to {host}" if host else ""
        raise SourceError(f"redirects{to} (status {response.status}), which is not followed")
    if response.status != 200:
        raise SourceError(f"answered with status {response.status}")
    document = b""
    async for chunk in response.content.iter_chunked(65_536):
        document = _bounded(document + chunk)
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    return document if encoding in {"", "identity"} else _decompressed(document, encoding)


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _decompressed(document: bytes, encoding: str) -> bytes:
    """The content of a compressed answer; never more than one byte over the bound is made."""
    if encoding not in _WBITS:
        raise SourceError("is encoded in a way that was not asked for")
    wbits = _WBITS[encoding]
    if encoding == "deflate" and (document[:1] or b"\0")[0] & 0x0F != 8:  # not zlib's header (RFC 1950)
        wbits = _RAW_DEFLATE
    inflater = zlib.decompressobj(wbits)
    try:
        content = inflater.decompress(document, MAX_BYTES + 1)
    except zlib.error as exc:
        raise SourceError(f"is not {encoding}, as it claims to be") from exc
    _bounded(content)
    if not inflater.eof:
        raise SourceError(f"is cut off: its {encoding} has no end")
    return content


def _bounded(document: bytes) -> bytes:
    if len(document) > MAX_BYTES:
        raise SourceError(f"is larger than {MAX_BYTES} bytes")
    return document


def _why(exc: BaseException) -> str:
    """The kind of a failure, and what TLS, the machine or a proxy has to say; never a URL: one may hold a
    password.
    """
    certificate = getattr(exc, "certificate_error", None)
    if isinstance(certificate, ssl.SSLCertVerificationError):
        text = certificate.verify_message
    elif status := getattr(exc, "status", 0):
        text = f"status {status}"
    else:
        cause = getattr(exc, "os_error", exc)
        text = (cause.strerror or "") if isinstance(cause, OSError) else ""
    return f"{type(exc).__name__}: {text}" if text else type(exc).__name__
