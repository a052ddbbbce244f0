"""Connections to one host without a proxy, kept for the next request."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from http.client import HTTPException
from typing import Any, Final
from urllib.parse import urlsplit

import urllib3.exceptions
from botocore import exceptions as aws
from botocore.httpsession import create_urllib3_context, get_cert_path
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.util.ssl_match_hostname import CertificateError

from eksgateway.eks.error_table import causes
from eksgateway.eks.http_answer import Answer, read_answer

# As botocore's session raises them.
_ERRORS: Final[tuple[tuple[Any, Any], ...]] = (
    ((urllib3.exceptions.SSLError, CertificateError, ssl.SSLError), aws.SSLError),
    (urllib3.exceptions.NewConnectionError, aws.EndpointConnectionError),
    (urllib3.exceptions.ConnectTimeoutError, aws.ConnectTimeoutError),
    (TimeoutError, aws.ReadTimeoutError),
    ((OSError, HTTPException), aws.ConnectionClosedError),
)


@dataclass(eq=False)
class Connections:
    """``origin`` is a scheme, host and port. At most ``kept`` idle connections are kept. For any thread.

    The other fields are as in ``HttpSender``.
    """

    origin: str
    connect_timeout: float
    read_timeout: float
    kept: int
    ca_bundle: str | None
    before: Callable[[], None]
    _idle: list[HTTPConnection] = field(default_factory=list, init=False)

    @cached_property
    def host(self) -> str:
        """As in the header, without a scheme's own port."""
        url = urlsplit(self.origin)
        own = url.port in (None, {"http": 80, "https": 443}.get(url.scheme))
        name = url.netloc.rpartition("@")[2].lower()
        return name.removesuffix(f":{url.port}") if own else name

    def exchange(self, request: bytes) -> Answer:
        """Send a request once, and read its answer. Raises what botocore's session raises, and ``before``."""
        with self._botocore_errors():
            connection, reusable = self._take(), False
            try:
                sock: Any = connection.sock
                self.before()
                sock.settimeout(self.read_timeout)
                sock.sendall(request)
                answer = read_answer(sock, self.read_timeout)
                reusable = answer.reusable and len(self._idle) < self.kept
                return answer
            finally:
                if reusable:
                    self._idle.append(connection)
                else:
                    connection.close()

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def _take(self) -> HTTPConnection:
        """The one that was used last, unless its server has hung up, or a new one."""
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:  # another thread was faster
                break
            if connection.is_connected:
                return connection
            connection.close()
        return self._connect()

    def _connect(self) -> HTTPConnection:
        """With the settings of botocore's session."""
        url = urlsplit(self.origin)
        host = url.hostname or ""
        if url.scheme == "https":
            connection: HTTPConnection = HTTPSConnection(
                host,
                url.port,
                timeout=self.connect_timeout,
                ssl_context=create_urllib3_context(),
                cert_reqs="CERT_REQUIRED",
                ca_certs=self.ca_bundle or get_cert_path(True),
            )
        else:
            connection = HTTPConnection(host, url.port, timeout=self.connect_timeout)
        try:
            connection.connect()
        except BaseException:
            connection.close()
            raise
        return connection

    @contextmanager
    def _botocore_errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as exc:
            for kinds, error in _ERRORS:
                if isinstance(exc, kinds):
                    raised = error(endpoint_url=self.origin, error=exc)
                    if isinstance(raised, aws.SSLError):
                        raised.add_note(describe_tls_error(raised, self.ca_bundle))
                    raise raised from exc
            raise


def describe_tls_error(exc: aws.SSLError, ca_bundle: str | None) -> str:
    """For the log."""
    return f"ca_bundle={ca_bundle or 'botocore'} ({_tls_reason(exc)})"


def _tls_reason(exc: aws.SSLError) -> str:
    """OpenSSL's fixed words, or why the bundle could not be opened."""
    for cause in causes(exc.kwargs.get("error")):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return cause.verify_message
        if isinstance(cause, ssl.SSLError):
            return cause.reason or ""
        if isinstance(cause, OSError):
            return cause.strerror or ""
    return ""
