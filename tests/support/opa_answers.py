"""A server in OPA's place that answers with given bytes."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from support.http_server import serve_app


@dataclass(frozen=True)
class Says:
    """One HTTP answer; ``hangs``: none until the server stops; ``endless``: the body again and again."""

    body: bytes = b"{}"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    hangs: bool = False
    endless: bool = False


def decides(result: Any, **beside: Any) -> Says:
    """An answer with this result and OPA's other members."""
    return Says(json.dumps({"result": result, **beside}).encode())


class AnsweringServer:
    """Gives ``answers`` in order, the last one for ever, to every path alike but for those that end as
    ``at`` says; ``paths`` and ``inputs`` are what was asked.
    """

    def __init__(self) -> None:
        self.url = ""
        self.answers = [Says()]
        self.at: dict[str, Says] = {}
        self.paths: list[str] = []
        self.inputs: list[Any] = []
        self._stopping = asyncio.Event()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.paths.append(request.path_qs)
        self.inputs.append((await request.json())["input"])
        answer = next((says for end, says in self.at.items() if request.path.endswith(end)), None)
        if answer is None:
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer.hangs:
            await self._stopping.wait()
        if answer.endless:
            stream = web.StreamResponse(headers={"Content-Type": "application/json"})
            await stream.prepare(request)
            with contextlib.suppress(ConnectionError):  # the reader has had enough
                while not self._stopping.is_set():
                    await stream.write(answer.body)
            return stream
        headers = {**answer.headers, "Content-Type": answer.content_type}
        return web.Response(body=answer.body, status=answer.status, headers=headers)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        app = web.Application()
        app.router.add_post("/{path:.*}", self._handle)
        async with serve_app(app) as port:
            self.url = f"http://127.0.0.1:{port}"
            try:
                yield
            finally:
                self._stopping.set()


@asynccontextmanager
async def answering_server(*answers: Says) -> AsyncIterator[AnsweringServer]:
    """A running AnsweringServer."""
    server = AnsweringServer()
    server.answers = list(answers) or server.answers
    async with server.serving():
        yield server
