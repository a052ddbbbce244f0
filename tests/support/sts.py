"""A real STS for tests: moto's, in a process of its own, behind a proxy that sees and spoils what passes."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl

import aiohttp
import boto3
from aiohttp import web

from eksgateway.simulator.signatures import Accounts
from support.http_server import serve_app

_DEADLINE_S = 100.0
_EXPIRES = re.compile(r"(?<=<Expiration>)[^<]+(?=</Expiration>)")
_ERROR = """<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
<Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>
<RequestId>0</RequestId></ErrorResponse>"""


@contextmanager
def moto_server(folder: Path) -> Iterator[str]:
    """A moto server as a process; its URL."""
    log = folder / "moto.log"
    command = (sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0")
    env = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    with (
        log.open("wb") as output,
        subprocess.Popen(command, stdout=output, stderr=output, env=env) as process,
    ):
        try:
            end = time.monotonic() + _DEADLINE_S
            while not (match := re.search(r"Running on (http://\S+)", log.read_text())):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < end, log.read_text()
                time.sleep(0.02)
            yield match[1]
        finally:
            process.terminate()


@dataclass(frozen=True)
class Session:
    """One AssumeRole that was answered: what was asked, and the credentials handed out."""

    asked: dict[str, str]
    access_key: str
    secret_key: str
    token: str

    @property
    def name(self) -> str:
        return self.asked["RoleSessionName"]

    @property
    def account_id(self) -> str:
        return self.asked["RoleArn"].split(":")[4]


@dataclass
class Sts:
    """``url`` is what a target's ``sts_endpoint_url`` is set to.

    Each key handed out is made known to the simulated EKS as one of the role's account, or of
    ``reaches``. ``ahead_s`` is how far this STS's clock is ahead. With ``fault`` (an HTTP status and
    AWS's code) it refuses instead, and while ``open`` is cleared it answers nobody. ``asked`` holds each
    request's parameters and, as ``Region``, the region it was signed for.
    """

    moto: str
    accounts: Accounts
    url: str = ""
    asked: list[dict[str, str]] = field(default_factory=list)
    sessions: list[Session] = field(default_factory=list)
    reaches: str = ""
    ahead_s: float = 0
    fault: tuple[int, str] | None = None
    open: asyncio.Event = field(default_factory=asyncio.Event)
    _http: aiohttp.ClientSession = field(init=False)
    _server: AbstractAsyncContextManager[int] = field(init=False)

    async def __aenter__(self) -> Self:
        self.open.set()
        self._http = aiohttp.ClientSession(auto_decompress=False)
        app = web.Application()
        app.router.add_post("/", self._answer)
        self._server = serve_app(app)
        self.url = f"http://127.0.0.1:{await self._server.__aenter__()}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.open.set()
        await self._server.__aexit__(None, None, None)
        await self._http.close()

    def who(self, access_key: str) -> str:
        """The name of the session that an access key was handed out to; the key itself for any other."""
        return next((each.name for each in self.sessions if each.access_key == access_key), access_key)

    async def identity(self, session: Session) -> dict[str, Any]:
        """The answer of GetCallerIdentity for a session's credentials."""

        def ask() -> dict[str, Any]:
            client = boto3.client(
                "sts",
                endpoint_url=self.moto,
                region_name="us-east-1",
                aws_access_key_id=session.access_key,
                aws_secret_access_key=session.secret_key,
                aws_session_token=session.token,
            )
            try:
                return dict(client.get_caller_identity())
            finally:
                client.close()

        return await asyncio.to_thread(ask)

    async def _answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        asked = dict(parse_qsl(body.decode()))
        asked["Region"] = request.headers["Authorization"].split("/")[2]
        self.asked.append(asked)
        await self.open.wait()
        if self.fault is not None:
            status, code = self.fault
            text = _ERROR.format(code=code, message=f"spoilt {asked['RoleArn']}")
            return web.Response(status=status, text=text, content_type="text/xml")
        headers = {name: request.headers[name] for name in ("Authorization", "Content-Type", "X-Amz-Date")}
        async with self._http.post(self.moto, data=body, headers=headers) as answered:
            text = await answered.text()
        assert answered.status == 200, text
        text = _EXPIRES.sub(self._shift, text)
        self._hand_out(asked, text)
        return web.Response(text=text, content_type="text/xml")

    def _shift(self, expires: re.Match[str]) -> str:
        return (datetime.fromisoformat(expires[0]) + timedelta(seconds=self.ahead_s)).isoformat()

    def _hand_out(self, asked: dict[str, str], text: str) -> None:
        parts = [
            re.findall(f"<{name}>([^<]+)</{name}>", text)[0]
            for name in ("AccessKeyId", "SecretAccessKey", "SessionToken")
        ]
        session = Session(asked, *parts)
        self.sessions.append(session)
        self.accounts.register(session.access_key, self.reaches or session.account_id)
