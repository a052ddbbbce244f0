"""The HTTP server that an OPA pulls its bundle from."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class BundleHost:
    """Serves one bundle at ``/bundle.tar.gz``, or status 404 without one."""

    def __init__(self) -> None:
        self.bundle: bytes | None = None
        self.requests = 0
        self._port = 0
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """On the port of before, if it was started before."""
        host = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                host.requests += 1
                bundle = host.bundle if self.path == "/bundle.tar.gz" else None
                tag = f'"{hashlib.sha256(bundle or b"").hexdigest()}"'
                known = tag == self.headers.get("If-None-Match")
                self.send_response(404 if bundle is None else 304 if known else 200)
                self.send_header("ETag", tag)
                body = b"" if known or bundle is None else bundle
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.05])
        self._thread.start()

    def stop(self) -> None:
        """Refuse connections from now on."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
            self._server = None


@contextmanager
def host_bundles(bundle: bytes | None = None) -> Iterator[BundleHost]:
    host = BundleHost()
    host.bundle = bundle
    host.start()
    try:
        yield host
    finally:
        host.stop()
