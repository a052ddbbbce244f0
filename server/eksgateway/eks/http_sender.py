"""Sends botocore's requests and bounds each answer: its size, and the time until its last byte.

botocore's own read timeout bounds only the silence between two bytes.
"""

from __future__ import annotations

import io
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from http.client import HTTPResponse
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from botocore.awsrequest import (
    AWSHTTPConnection,
    AWSHTTPConnectionPool,
    AWSHTTPSConnection,
    AWSHTTPSConnectionPool,
    AWSResponse,
)
from botocore.exceptions import HTTPClientError, ProxyConnectionError, SSLError
from botocore.httpsession import URLLib3Session
from botocore.utils import get_environ_proxies

from eksgateway.addresses import is_loopback
from eksgateway.eks.error_table import causes
from eksgateway.errors import GatewayError

if TYPE_CHECKING:
    from botocore.awsrequest import AWSPreparedRequest

MAX_BYTES: Final = 1 << 20  # EKS's longest answers, which are listings, have some 10 KB
_CHUNK: Final = 1 << 16
# As in botocore. Without it, a body waits some 40 ms for the acknowledgement of its headers.
_NO_DELAY: Final = (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

_thread = threading.local()  # ``before``: called before this thread's request leaves


class TooLargeError(HTTPClientError):
    fmt = "The answer is too large"


class InterimError(HTTPClientError):
    """http.client takes a status below 200 for the answer, but the answer is still to come."""

    fmt = "The answer is not the last one"


@dataclass(eq=False)
class HttpSender:
    """Handles botocore's event before-send. ``before`` is called just before a request leaves: on a new
    connection after it is established, because DNS, proxies and TLS can take long. It may raise GatewayError.

    ``read_timeout`` bounds a whole answer. ``ca_bundle`` is a path, or None for botocore's own bundle.
    """

    connect_timeout: float
    read_timeout: float
    connections: int
    ca_bundle: str | None
    before: Callable[[], None] = lambda: None
    _sessions: dict[str, _Session] = field(default_factory=dict, init=False)

    def send(self, request: AWSPreparedRequest, **_event: Any) -> AWSResponse:
        """Returning an answer keeps botocore from sending the request itself."""
        session = self._session(request.url)
        self.before()
        _thread.before = self.before
        request.stream_output = True  # otherwise botocore reads it at once, at any size
        try:
            answer = session.send(request)
        except (SSLError, ProxyConnectionError) as exc:
            exc.add_note(self._describe(exc))
            raise
        except HTTPClientError as exc:
            if isinstance(cause := exc.kwargs.get("error"), GatewayError):
                raise cause from None  # from ``before``
            raise
        with closing(answer.raw) as raw:
            if answer.status_code < 200:
                raise InterimError
            body = _read_body(raw)
            raw.release_conn()
        return AWSResponse(answer.url, answer.status_code, raw.headers, _ReadBody(body))

    def close(self) -> None:
        for session in tuple(self._sessions.values()):
            session.close()

    def _session(self, url: str) -> _Session:
        # The proxy depends on the host; loopback has none.
        host = urlsplit(url).netloc
        session = self._sessions.get(host)
        if session is None:
            local = is_loopback(urlsplit(url).hostname or "")
            session = _Session(
                verify=self.ca_bundle or True,
                proxies={} if local else get_environ_proxies(url),
                timeout=(self.connect_timeout, self.read_timeout),
                max_pool_connections=self.connections,
                socket_options=[_NO_DELAY],
            )
            session = self._sessions.setdefault(host, session)
        return session

    def _describe(self, exc: SSLError | ProxyConnectionError) -> str:
        """For the log. Never a proxy's password."""
        if isinstance(exc, ProxyConnectionError):
            proxy = urlsplit(str(exc.kwargs.get("proxy_url")))
            return f"proxy={proxy.hostname}:{proxy.port}"
        return f"ca_bundle={self.ca_bundle or 'botocore'} ({_tls_reason(exc)})"


class _DeadlineReader(io.RawIOBase):
    """Raises TimeoutError past ``deadline`` (monotonic), even if bytes still arrive."""

    def __init__(self, sock: Any, deadline: float) -> None:
        self._sock = sock
        self._bytes = sock.makefile("rb", buffering=0)
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer was not complete in time")
        self._sock.settimeout(left)
        read: int | None = self._bytes.readinto(buffer)
        return read

    def close(self) -> None:
        self._bytes.close()
        super().close()


@dataclass
class _Socket:
    """The part of a socket that HTTPResponse uses. The read timeout becomes that of the whole answer."""

    sock: Any

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_DeadlineReader(self.sock, time.monotonic() + self.sock.gettimeout()))


class _Response(HTTPResponse):
    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(_Socket(sock), *args, **kwargs)  # type: ignore[arg-type]  # a part of one


class _PlainConnection(AWSHTTPConnection):
    response_class = _Response  # type: ignore[assignment]  # stubs

    def connect(self) -> None:
        super().connect()
        _thread.before()


class _TlsConnection(AWSHTTPSConnection):
    response_class = _Response  # type: ignore[assignment]  # stubs

    def connect(self) -> None:
        super().connect()
        _thread.before()


class _PlainPool(AWSHTTPConnectionPool):
    ConnectionCls = _PlainConnection


class _TlsPool(AWSHTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class _Session(URLLib3Session):
    """botocore's session with the connections above. ``_pool_classes_by_scheme`` is private, and
    tests/eks/test_http_sender.py fails if botocore no longer uses it.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._pool_classes_by_scheme = {"http": _PlainPool, "https": _TlsPool}
        manager: Any = vars(self)["_manager"]
        manager.pool_classes_by_scheme = self._pool_classes_by_scheme


@dataclass
class _ReadBody:
    """A body in the form that AWSResponse needs."""

    body: bytes

    def stream(self) -> Iterator[bytes]:
        yield self.body


def _read_body(raw: Any) -> bytes:
    body = bytearray()
    while chunk := raw.read(_CHUNK):
        body += chunk
        if len(body) > MAX_BYTES:
            raise TooLargeError
    return bytes(body)


def _tls_reason(exc: SSLError) -> str:
    """OpenSSL's fixed words, or why the bundle could not be opened."""
    for cause in causes(exc.kwargs.get("error")):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return cause.verify_message
        if isinstance(cause, ssl.SSLError):
            return cause.reason or ""
        if isinstance(cause, OSError):
            return cause.strerror or ""
    return ""
