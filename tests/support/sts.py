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
def run_moto(folder: Path) -> Iterator[str]:
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
    """One AssumeRole: its parameters, and the credentials that it returned."""

    params: dict[str, str]
    access_key: str
    secret_key: str
    token: str

    @property
    def name(self) -> str:
        return self.params["RoleSessionName"]

    @property
    def account_id(self) -> str:
        return self.params["RoleArn"].split(":")[4]


@dataclass
class Sts:
    """moto's STS on a port of its own: ``url`` is for a target's ``sts_endpoint_url``.

    Each access key that it returns is registered at the simulated EKS, with the role's account or with
    ``reaches``. ``ahead_s`` is how far its clock is ahead. With ``fault`` (an HTTP status and AWS's code) it
    refuses requests. While ``open`` is cleared it does not answer. ``requests`` has the parameters of each
    request and, as ``Region``, the region of its signature.
    """

    moto: str
    accounts: Accounts
    url: str = ""
    requests: list[dict[str, str]] = field(default_factory=list)
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

    def session_name_of(self, access_key: str) -> str:
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
        params = dict(parse_qsl(body.decode()))
        params["Region"] = request.headers["Authorization"].split("/")[2]
        self.requests.append(params)
        await self.open.wait()
        if self.fault is not None:
            status, code = self.fault
            text = _ERROR.format(code=code, message=f"spoilt {params['RoleArn']}")
            return web.Response(status=status, text=text, content_type="text/xml")
        headers = {name: request.headers[name] for name in ("Authorization", "Content-Type", "X-Amz-Date")}
        async with self._http.post(self.moto, data=body, headers=headers) as answered:
            text = await answered.text()
        assert answered.status == 200, text
        text = _EXPIRES.sub(self._shift, text)
        self._hand_out(params, text)
        return web.Response(text=text, content_type="text/xml")

    def _shift(self, expires: re.Match[str]) -> str:
        return (datetime.fromisoformat(expires[0]) + timedelta(seconds=self.ahead_s)).isoformat()

    def _hand_out(self, params: dict[str, str], text: str) -> None:
        parts = [
            re.findall(f"<{name}>([^<]+)</{name}>", text)[0]
            for name in ("AccessKeyId", "SecretAccessKey", "SessionToken")
        ]
        session = Session(params, *parts)
        self.sessions.append(session)
        self.accounts.register(session.access_key, self.reaches or session.account_id)
