"""Sends botocore's requests, with bounds on each answer: its size, and the time until its last byte.

botocore's own read time limit is for the silence between two bytes, and it keeps an answer of any size.
"""

from __future__ import annotations

import io
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
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

LARGEST: Final = 1 << 20  # bytes; the longest answers of EKS, which are listings, have some 10 KB
_CHUNK: Final = 1 << 16
# As botocore sets it, and its session by itself does not: or a request's body waits some 40 ms for EKS's
# acknowledgement of the headers.
_AT_ONCE: Final = (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

_thread = threading.local()  # ``before``: what to call before this thread's request leaves


class TooLargeError(HTTPClientError):
    """An answer that no AWS service gives."""

    fmt = "The answer is larger than is taken"


class InterimError(HTTPClientError):
    """A status below 200, which Python takes for the answer; the answer itself is still to come."""

    fmt = "The answer is not the last one"


class Wire:
    """A handler of botocore's event before-send. ``before`` is called just before a request leaves: on a new
    connection once that is there, because names, proxies and TLS can take long. It may raise GatewayError.

    ``read_timeout`` is for a whole answer. ``ca_bundle`` is a path, or None for botocore's own bundle.
    """

    def __init__(
        self,
        connect_timeout: float,
        read_timeout: float,
        connections: int,
        ca_bundle: str | None,
        before: Callable[[], None] = lambda: None,
    ) -> None:
        self._timeouts = (connect_timeout, read_timeout)
        self._connections = connections
        self._ca_bundle = ca_bundle
        self._before = before
        self._sessions: dict[str, _Session] = {}

    def send(self, request: AWSPreparedRequest, **_event: Any) -> AWSResponse:
        """Handle before-send: what is returned here, botocore does not send by itself."""
        session = self._session(request.url)
        self._before()
        _thread.before = self._before
        request.stream_output = True  # or it is read at once, whatever its size
        try:
            answer = session.send(request)
        except (SSLError, ProxyConnectionError) as exc:
            exc.add_note(self._explain(exc))
            raise
        except HTTPClientError as exc:
            if isinstance(cause := exc.kwargs.get("error"), GatewayError):
                raise cause from None  # what ``before`` raised
            raise
        with closing(answer.raw) as raw:
            if answer.status_code < 200:
                raise InterimError
            body = _read(raw)
            raw.release_conn()
        return AWSResponse(answer.url, answer.status_code, raw.headers, _Whole(body))

    def close(self) -> None:
        """Close every connection."""
        for session in tuple(self._sessions.values()):
            session.close()

    def _session(self, url: str) -> _Session:
        """The connections to a host. It decides which proxy leads there; none leads to this machine."""
        host = urlsplit(url).netloc
        session = self._sessions.get(host)
        if session is None:
            local = is_loopback(urlsplit(url).hostname or "")
            session = _Session(
                verify=self._ca_bundle or True,
                proxies={} if local else get_environ_proxies(url),
                timeout=self._timeouts,
                max_pool_connections=self._connections,
                socket_options=[_AT_ONCE],
            )
            session = self._sessions.setdefault(host, session)
        return session

    def _explain(self, exc: SSLError | ProxyConnectionError) -> str:
        """For the log: what an operator has to look at. Never a proxy's password."""
        if isinstance(exc, ProxyConnectionError):
            proxy = urlsplit(str(exc.kwargs.get("proxy_url")))
            return f"proxy={proxy.hostname}:{proxy.port}"
        return f"ca_bundle={self._ca_bundle or 'botocore'} ({_why(exc)})"


class _Raw(io.RawIOBase):
    """A socket's bytes until a moment (monotonic); TimeoutError then, however often bytes come."""

    def __init__(self, sock: Any, ends: float) -> None:
        self._sock = sock
        self._bytes = sock.makefile("rb", buffering=0)
        self._ends = ends

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer takes too long")
        self._sock.settimeout(left)
        read: int | None = self._bytes.readinto(buffer)
        return read

    def close(self) -> None:
        self._bytes.close()
        super().close()


class _Socket:
    """What an HTTPResponse needs of a socket. Its read time limit becomes that of the whole answer."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Raw(self._sock, time.monotonic() + self._sock.gettimeout()))


class _Response(HTTPResponse):
    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(_Socket(sock), *args, **kwargs)  # type: ignore[arg-type]  # all it needs of one


class _Connection(AWSHTTPConnection):
    response_class = _Response  # type: ignore[assignment]  # stubs

    def connect(self) -> None:
        super().connect()
        _thread.before()


class _TlsConnection(AWSHTTPSConnection):
    response_class = _Response  # type: ignore[assignment]  # stubs

    def connect(self) -> None:
        super().connect()
        _thread.before()


class _Pool(AWSHTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(AWSHTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class _Session(URLLib3Session):
    """botocore's, with connections of ours. ``_pool_classes_by_scheme`` is private: tests/eks/test_wire.py
    fails when botocore no longer takes its connections from there.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
        manager: Any = vars(self)["_manager"]
        manager.pool_classes_by_scheme = self._pool_classes_by_scheme


class _Whole:
    """An answer that has been read, as AWSResponse takes one."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self) -> Iterator[bytes]:
        yield self._body


def _read(raw: Any) -> bytes:
    """The body. A connection with more in it than that is not used again."""
    body = bytearray()
    while chunk := raw.read(_CHUNK):
        body += chunk
        if len(body) > LARGEST:
            raise TooLargeError
    return bytes(body)


def _why(exc: SSLError) -> str:
    """What TLS found wrong, in its own fixed words: with a certificate, or with the bundle's file."""
    for cause in causes(exc.kwargs.get("error")):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return cause.verify_message
        if isinstance(cause, ssl.SSLError):
            return cause.reason or ""
        if isinstance(cause, OSError):
            return cause.strerror or ""
    return ""
