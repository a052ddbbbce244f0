"""A server in OPA's place whose answers a test sets, over real HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from eksgateway.clock import SystemClock
from eksgateway.policy.opa import OpaEngine
from eksgateway.settings import OpaSettings
from support.http_server import serve_app

ALLOW = {"allow": True, "reasons": [], "rules": ["fake"], "obligations": []}


@dataclass(frozen=True)
class OpaAnswer:
    """One HTTP answer.

    ``drop`` closes the connection without one, ``hangs`` sends none until the server stops, and ``endless``
    repeats the body.
    """

    body: bytes = b"{}"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    delay_s: float = 0
    drop: bool = False
    hangs: bool = False
    endless: bool = False


def make_result(value: Any, **members: Any) -> OpaAnswer:
    """An answer with this result and other members."""
    return OpaAnswer(json.dumps({"result": value, **members}).encode())


class FakeOpa:
    """Answers by path, then by ``decide`` for decisions, then with ``answers`` in order.

    The keys of ``at`` are ends of paths. The last one of ``answers`` is repeated. ``inputs`` are those of
    decisions.
    """

    def __init__(self) -> None:
        self.url = ""
        self.at = {"/fault": OpaAnswer()}  # none
        self.decide: Callable[[dict[str, Any]], OpaAnswer] | None = None
        self.answers = [OpaAnswer()]
        self.status = OpaAnswer(b"{}", 500)  # OPA's, if its configuration has no status
        self.paths: list[str] = []
        self.inputs: list[dict[str, Any]] = []
        self._stopping = asyncio.Event()

    def answer_at_stage(self, stage: str, answer: OpaAnswer) -> None:
        """Give this answer at one stage, and allow at the other."""
        self.decide = lambda asked: answer if asked["context"]["stage"] == stage else make_result(ALLOW)

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[None]:
        app = web.Application()
        app.router.add_get("/v1/status", self._handle_status)
        app.router.add_post("/{path:.*}", self._handle)
        async with serve_app(app) as port:
            self.url = f"http://127.0.0.1:{port}"
            try:
                yield
            finally:
                self._stopping.set()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.paths.append(request.path_qs)
        return await self._send(request, self._choose(request.path, (await request.json())["input"]))

    async def _handle_status(self, request: web.Request) -> web.StreamResponse:
        return await self._send(request, self.status)

    async def _send(self, request: web.Request, answer: OpaAnswer) -> web.StreamResponse:
        await asyncio.sleep(answer.delay_s)
        if answer.drop and request.transport is not None:
            request.transport.abort()
        if answer.hangs:
            await self._stopping.wait()
        if answer.endless:
            return await self._repeat(request, answer)
        headers = {**answer.headers, "Content-Type": answer.content_type}
        return web.Response(body=answer.body, status=answer.status, headers=headers)

    def _choose(self, path: str, asked: dict[str, Any]) -> OpaAnswer:
        decision = path.endswith("/authz/decision")
        if decision:
            self.inputs.append(asked)
        for end, answer in self.at.items():
            if path.endswith(end):
                return answer
        if decision and self.decide is not None:
            return self.decide(asked)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    async def _repeat(self, request: web.Request, answer: OpaAnswer) -> web.StreamResponse:
        stream = web.StreamResponse(headers={"Content-Type": "application/json"})
        await stream.prepare(request)
        with contextlib.suppress(ConnectionError):  # the client closes it
            while not self._stopping.is_set():
                await stream.write(answer.body)
        return stream


@asynccontextmanager
async def serve_answers(*answers: OpaAnswer) -> AsyncIterator[FakeOpa]:
    """A server with these answers, in order."""
    fake = FakeOpa()
    fake.answers = list(answers) or fake.answers
    async with fake.serve():
        yield fake


@asynccontextmanager
async def run_fake_opa(timeout_s: float = 10) -> AsyncIterator[tuple[FakeOpa, OpaEngine]]:
    """A server that allows, and the real engine that queries it; the caller closes the engine."""
    async with serve_answers(make_result("revision")) as fake:
        fake.decide = lambda _: make_result(ALLOW)
        yield fake, await OpaEngine.open(OpaSettings(url=fake.url), SystemClock(), timeout_s=timeout_s)
