"""Errors as HTTP responses, and the headers of every answer to a call."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from eksgateway.edge.codecs import to_json
from eksgateway.edge.connect_error import ConnectError
from eksgateway.edge.metadata import add_headers

API_HEADERS: Final = {
    "Server": "eksgateway",  # in place of aiohttp's version
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
}
TRAILER: Final = "trailer-"


def answer_error(error: ConnectError) -> web.Response:
    """As of a unary call, whatever the request's content type."""
    headers = {"Content-Type": "application/json", **error.headers}
    response = web.Response(status=error.http_status, body=to_json(error.to_json()), headers=headers)
    add_headers(response.headers, error.initial)
    add_headers(response.headers, error.trailing, TRAILER)
    return response
