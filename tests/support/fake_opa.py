"""A server with OPA's Data API whose answers a test sets, over real HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from eksgateway.clock import SystemClock
from eksgateway.policy.opa import OpaEngine
from eksgateway.settings import OpaSettings
from support.http_server import serve_app

ALLOW = {"allow": True, "reasons": [], "rules": ["fake"], "obligations": []}


@dataclass(frozen=True)
class Answer:
    """One HTTP answer; ``drop`` closes the connection without one."""

    body: bytes
    status: int = 200
    content_type: str = "application/json"
    delay_s: float = 0
    drop: bool = False


def result(value: Any) -> Answer:
    """A decision document of this value."""
    return Answer(json.dumps({"result": value}).encode())


class FakeOpa:
    """Answers decisions with what ``decide`` makes of the policy's input; keeps the inputs."""

    def __init__(self) -> None:
        self.decide: Callable[[dict[str, Any]], Answer] = lambda _: result(ALLOW)
        self.inputs: list[dict[str, Any]] = []
        self.url = ""

    def at_stage(self, stage: str, answer: Answer) -> None:
        """Answer this at one stage, and allow at the other."""
        self.decide = lambda asked: answer if asked["context"]["stage"] == stage else result(ALLOW)

    async def _handle(self, request: web.Request) -> web.Response:
        if request.match_info["path"] != "eksgateway/authz/decision":
            return web.json_response({"result": "revision"})
        asked = (await request.json())["input"]
        self.inputs.append(asked)
        answer = self.decide(asked)
        await asyncio.sleep(answer.delay_s)
        if answer.drop and request.transport is not None:
            request.transport.abort()
        return web.Response(body=answer.body, status=answer.status, content_type=answer.content_type)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        app = web.Application()
        app.router.add_post("/v1/data/{path:.*}", self._handle)
        async with serve_app(app) as port:
            self.url = f"http://127.0.0.1:{port}"
            yield


@asynccontextmanager
async def fake_opa(timeout_s: float = 10) -> AsyncIterator[tuple[FakeOpa, OpaEngine]]:
    """A fake OPA and the real engine that asks it; the engine is its user's to close."""
    fake = FakeOpa()
    async with fake.serving():
        yield fake, await OpaEngine.open(OpaSettings(url=fake.url), SystemClock(), timeout_s=timeout_s)
