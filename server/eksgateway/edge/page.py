"""The page's files, read once. The browser may load nothing from anywhere else."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from aiohttp import web

_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
}
_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",  # asked for again each time, and answered 304 while it is the same
}


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    type: str
    etag: str


class Page:
    """``index.html`` is at ``/``, each other file at its name. There is none before ``load``."""

    def __init__(self) -> None:
        self._files: dict[str, _File] = {}

    def load(self) -> None:
        for file in (files("eksgateway.edge") / "page").iterdir():
            suffix = "." + file.name.rpartition(".")[2]
            if suffix in _TYPES:
                content = file.read_bytes()
                path = "/" if file.name == "index.html" else f"/{file.name}"
                etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
                self._files[path] = _File(content, _TYPES[suffix], etag)

    def __contains__(self, path: str) -> bool:
        return path in self._files

    def answer(self, request: web.BaseRequest) -> web.Response:
        """For GET and HEAD of a path that it contains."""
        file = self._files[request.path]
        headers = _HEADERS | {"ETag": file.etag}
        if file.etag in request.headers.get("If-None-Match", ""):
            return web.Response(status=304, headers=headers)
        return web.Response(body=file.content, headers=headers | {"Content-Type": file.type})
