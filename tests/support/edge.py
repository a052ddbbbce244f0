"""An HTTP client of a gateway's edge, and the frames of the Connect protocol."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from eksgateway.sandbox.issuer import ThrowawayIssuer
from support.gateway import RunningGateway, run_gateway
from support.simulator import SimulatedEks

UPDATES = "/eksgateway.v1.UpdateService"
HISTORY = "/eksgateway.v1.CancellationService"
ON: dict[str, Any] = {"listen": "127.0.0.1:0"}
WHY = {"reason": "bad AMI", "ticket": "OPS-1"}


@dataclass(frozen=True)
class Answer:
    """A whole HTTP response."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        return str(self.json["code"])

    @property
    def reason(self) -> str:
        """Of ErrorInfo."""
        return error_reason(self.json)

    @property
    def refusal(self) -> tuple[int, str, str]:
        return self.status, self.code, self.reason


def error_reason(error: Mapping[str, Any]) -> str:
    """Of the ErrorInfo of an error in JSON."""
    (info,) = [each for each in error["details"] if each["type"] == "google.rpc.ErrorInfo"]
    assert info["debug"]["domain"] == "eksgateway"
    assert info["value"] == info["value"].rstrip("=")
    assert info["debug"]["reason"].encode() in base64.b64decode(info["value"] + "==")
    return str(info["debug"]["reason"])


class EdgeClient:
    """Calls the edge at ``url``. ``oncall``, ``viewer`` and ``outsider`` are headers."""

    def __init__(self, url: str, issuer: ThrowawayIssuer) -> None:
        self.url = url
        self.issuer = issuer
        self.oncall = self.bearer("oncall", "oncall")
        self.viewer = self.bearer("viewer", "viewers")
        self.outsider = self.bearer("outsider")
        self.http = aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=0))

    def bearer(self, subject: str, *groups: str, **claims: Any) -> dict[str, str]:
        return {"authorization": f"Bearer {self.issuer.token(subject, groups, **claims)}"}

    async def send(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Any request. No header is added but those that HTTP needs."""
        skipped = ("Content-Type", "Accept-Encoding", "Accept", "User-Agent")
        async with self.http.request(
            method, path, data=body, headers=headers, skip_auto_headers=skipped
        ) as answer:
            return Answer(answer.status, answer.headers, await answer.read())

    async def call(
        self, method: str, request: Any, who: Mapping[str, str] | None = None, **headers: str
    ) -> Answer:
        """A unary call in JSON, by the on-call engineer by default."""
        given = {"content-type": "application/json"} | dict(self.oncall if who is None else who)
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        path = method if method.startswith("/") else f"{UPDATES}/{method}"
        return await self.send("POST", path, json.dumps(request).encode(), given)

    async def cancel(self, cluster: str, update_id: str, who: Any = None, **fields: Any) -> Answer:
        """CancelUpdate with a reason and a ticket by default."""
        return await self.call("CancelUpdate", update(cluster, update_id) | WHY | fields, who)

    @asynccontextmanager
    async def stream(
        self,
        request: Any,
        who: Any = None,
        content_type: str = "application/json",
        method: str = "WatchUpdate",
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """An open stream: in JSON lines, or with ``application/connect+json`` in frames."""
        body = json.dumps(request).encode()
        headers = {"content-type": content_type} | dict(self.oncall if who is None else who)
        data = body if content_type == "application/json" else frame(body)
        async with self.http.post(f"{UPDATES}/{method}", data=data, headers=headers) as answer:
            yield answer


class RunningEdge(EdgeClient):
    """An edge, and its gateway for gRPC clients."""

    def __init__(self, gateway: RunningGateway) -> None:
        assert gateway.gateway.edge is not None
        super().__init__(f"http://{gateway.gateway.edge.address}", gateway.issuer)
        self.gateway = gateway


@asynccontextmanager
async def run_edge(
    path: Path, eks: SimulatedEks, http: Mapping[str, Any] | None = None, **options: Any
) -> AsyncIterator[RunningEdge]:
    """A gateway as of ``run_gateway``, with an edge."""
    async with run_gateway(path, eks, http=ON | dict(http or {}), **options) as gateway:
        here = RunningEdge(gateway)
        try:
            yield here
        finally:
            await here.http.close()


def update(cluster: str, update_id: str) -> dict[str, Any]:
    """The fields that name an update."""
    return {"cluster": {"name": cluster}, "updateId": update_id}


def frame(message: bytes, flags: int = 0) -> bytes:
    return struct.pack(">BI", flags, len(message)) + message


async def read_frame(content: aiohttp.StreamReader) -> tuple[int, bytes]:
    """The flags and the message."""
    flags, length = struct.unpack(">BI", await content.readexactly(5))
    return flags, await content.readexactly(length)


async def read_line(content: aiohttp.StreamReader) -> Any:
    """A JSON line; None at the end."""
    line = await content.readline()
    return json.loads(line) if line else None
