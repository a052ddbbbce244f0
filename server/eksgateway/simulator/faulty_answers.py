"""Answers that a network, a proxy or a firewall has changed: foreign, in pieces, or too long."""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import web

from eksgateway.simulator.specs import FaultSpec

_PIECES: Final = 50
_PADDING: Final = b" " * 65_536


def foreign_answer(fault: FaultSpec) -> web.Response:
    body = (fault.body or "").encode("utf-8", "surrogatepass")
    return web.Response(status=fault.status or 403, body=body, content_type=fault.content_type)


async def send_faulty(fault: FaultSpec, request: web.Request, answer: web.Response) -> web.StreamResponse:
    """Send the answer, slowly or padded if the fault sets that."""
    body = answer.body if isinstance(answer.body, bytes) else b""
    if not (fault.drip_s or fault.pad_bytes):
        return answer
    headers = {name: value for name, value in answer.headers.items() if name != "Content-Length"}
    sent = web.StreamResponse(status=answer.status, headers=headers)
    sent.content_length = len(body) + fault.pad_bytes
    await sent.prepare(request)
    size = max(1, len(body) // _PIECES)
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    for piece in pieces:
        await sent.write(piece)
        await asyncio.sleep(fault.drip_s / len(pieces))
    left = fault.pad_bytes
    while left > 0:
        await sent.write(_PADDING[:left])
        left -= len(_PADDING)
    await sent.write_eof()
    return sent
