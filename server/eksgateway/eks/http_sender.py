"""Sends botocore's requests through its own session, and bounds each answer: its size, and the time until its
last byte. It sends calls to EKS through a proxy or with a path to encode, not those of ``direct_calls``.

botocore's own read timeout bounds only the silence between two bytes.
"""

from __future__ import annotations

import socket
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
from eksgateway.eks.connections import Connections, describe_tls_error
from eksgateway.eks.http_answer import BoundedSocket, InterimError, read_body
from eksgateway.errors import GatewayError

if TYPE_CHECKING:
    from botocore.awsrequest import AWSPreparedRequest

# As in botocore. Without it, a body waits some 40 ms for the acknowledgement of its headers.
_NO_DELAY: Final = (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

_thread = threading.local()  # ``before``: called before this thread's request leaves


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
    _direct: dict[str, Connections | None] = field(default_factory=dict, init=False)

    def connections_to(self, origin: str) -> Connections | None:
        """To a scheme, host and port. None if a proxy is between."""
        if origin not in self._direct:
            made = None if _proxies(origin).get(urlsplit(origin).scheme) else self._connections(origin)
            return self._direct.setdefault(origin, made)
        return self._direct[origin]

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
            body = read_body(raw)
            raw.release_conn()
        return AWSResponse(answer.url, answer.status_code, raw.headers, _ReadBody(body))

    def close(self) -> None:
        for each in (*self._sessions.values(), *self._direct.values()):
            if each is not None:
                each.close()

    def _session(self, url: str) -> _Session:
        # The proxy depends on the host; loopback has none.
        host = urlsplit(url).netloc
        session = self._sessions.get(host)
        if session is None:
            session = _Session(
                verify=self.ca_bundle or True,
                proxies=_proxies(url),
                timeout=(self.connect_timeout, self.read_timeout),
                max_pool_connections=self.connections,
                socket_options=[_NO_DELAY],
            )
            session = self._sessions.setdefault(host, session)
        return session

    def _connections(self, origin: str) -> Connections:
        return Connections(
            origin, self.connect_timeout, self.read_timeout, self.connections, self.ca_bundle, self.before
        )

    def _describe(self, exc: SSLError | ProxyConnectionError) -> str:
        """For the log. Never a proxy's password."""
        if isinstance(exc, ProxyConnectionError):
            proxy = urlsplit(str(exc.kwargs.get("proxy_url")))
            return f"proxy={proxy.hostname}:{proxy.port}"
        return describe_tls_error(exc, self.ca_bundle)


class _Response(HTTPResponse):
    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        # The read timeout becomes that of the whole answer.
        bounded = BoundedSocket(sock, time.monotonic() + sock.gettimeout())
        super().__init__(bounded, *args, **kwargs)  # type: ignore[arg-type]  # a part of one


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


def _proxies(url: str) -> dict[str, str]:
    """By scheme."""
    if is_loopback(urlsplit(url).hostname or ""):
        return {}
    proxies: dict[str, str] = get_environ_proxies(url)
    return proxies
