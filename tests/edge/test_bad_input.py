"""Each malformed request gets a Connect error with ErrorInfo, and no trace of the code."""

from __future__ import annotations

import asyncio
import gzip
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eksgateway.edge.codecs import Json
from eksgateway.edge.connect_error import ConnectError
from eksgateway.edge.metadata import read_metadata
from eksgateway.edge.methods import find_methods
from eksgateway.v1 import update_service_pb2 as pb
from support.edge import HISTORY, UPDATES, RunningEdge, error_reason, frame, run_edge
from support.simulator import SimulatedEks

JSON = {"content-type": "application/json"}
FRAMES = {"content-type": "application/connect+json"}
INVALID = (400, "invalid_argument", "REQUEST_INVALID")
GET, WATCH = f"{UPDATES}/GetUpdate", f"{UPDATES}/WatchUpdate"
METHODS = find_methods([pb.DESCRIPTOR.services_by_name["UpdateService"]])


@dataclass(frozen=True)
class Bad:
    """A request by the on-call engineer, and its refusal: HTTP status, code and reason."""

    refusal: tuple[int, str, str]
    path: str = GET
    method: str = "POST"
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=lambda: JSON)
    encoding: str | None = None
    named: str = ""  # the message names what is wrong


UNKNOWN_PATH = (404, "unimplemented", "METHOD_UNKNOWN")
WRONG_VERB = (405, "unknown", "REQUEST_INVALID")
WRONG_TYPE = (415, "unknown", "REQUEST_INVALID")
UNSUPPORTED = (501, "unimplemented", "REQUEST_INVALID")
TOO_LARGE = (429, "resource_exhausted", "REQUEST_TOO_LARGE")

CASES = {
    "no such path": Bad(UNKNOWN_PATH, "/nope"),
    "no such method": Bad(UNKNOWN_PATH, f"{UPDATES}/Nope"),
    "no such service": Bad(UNKNOWN_PATH, "/grpc.health.v1.Health/Check"),
    "a path that is not text": Bad(UNKNOWN_PATH, "/%ff%fe"),
    "out of the page's folder": Bad(UNKNOWN_PATH, "/../handler.py", "GET"),
    "a path with a slash more": Bad(UNKNOWN_PATH, f"{GET}/"),
    "GET of a method": Bad(WRONG_VERB, method="GET", named="POST"),
    "PUT of a method": Bad(WRONG_VERB, method="PUT", named="PUT"),
    "a preflight": Bad(WRONG_VERB, method="OPTIONS"),
    "DELETE of a method": Bad(WRONG_VERB, method="DELETE"),
    "POST to the page": Bad(WRONG_VERB, "/", named="GET"),
    "no content type": Bad(WRONG_TYPE, headers={}, named="application/json"),
    "a form": Bad(WRONG_TYPE, headers={"content-type": "application/x-www-form-urlencoded"}),
    "text, as any site may send": Bad(WRONG_TYPE, headers={"content-type": "text/plain"}),
    "gRPC": Bad(WRONG_TYPE, headers={"content-type": "application/grpc+proto"}),
    "a codec that is unknown": Bad(WRONG_TYPE, headers={"content-type": "application/xml"}),
    "JSON in another charset": Bad(WRONG_TYPE, headers={"content-type": "application/json; charset=utf-16"}),
    "frames to a unary method": Bad(WRONG_TYPE, headers=FRAMES),
    "a unary type to a stream": Bad(WRONG_TYPE, WATCH, headers={"content-type": "application/proto"}),
    "no body": Bad(INVALID, body=b""),
    "no JSON": Bad(INVALID, body=b"{", named="JSON"),
    "JSON after JSON": Bad(INVALID, body=b"{}{}"),
    "JSON that is no UTF-8": Bad(INVALID, body=b'{"updateId": "\xff"}'),
    "half of a surrogate pair": Bad(INVALID, body=b'{"updateId": "\\ud800"}'),
    "JSON that is no object": Bad(INVALID, body=b"[1]"),
    "null": Bad(INVALID, body=b"null"),
    "deep JSON": Bad(INVALID, body=b"[" * 30_000),
    "a long number": Bad(INVALID, body=b'{"updateId": ' + b"9" * 10_000 + b"}"),
    "a field twice": Bad(INVALID, body=b'{"updateId": "a", "updateId": "b"}'),
    "a misspelt field": Bad(INVALID, body=b'{"upateId": "u-1"}', named="upateId"),
    "a field of another type": Bad(INVALID, body=b'{"cluster": "prod-1"}'),
    "a field of the API that is wrong": Bad(INVALID, body=b'{"cluster": {"name": "prod-1"}}'),
    "a page size of text": Bad(INVALID, f"{UPDATES}/ListUpdates", body=b'{"pageSize": "ten"}'),
    "JSON in a stream": Bad(INVALID, WATCH, body=b"{"),
    "binary that is none": Bad(INVALID, body=b"\xff\xff", headers={"content-type": "application/proto"}),
    "a long body": Bad(TOO_LARGE, body=b'{"updateId": "' + b"u" * 70_000 + b'"}', named="65536"),
    "a long stream's body": Bad(TOO_LARGE, WATCH, body=b" " * 70_000),
    "a gzip bomb": Bad(TOO_LARGE, body=gzip.compress(b" " * 50_000_000), encoding="gzip"),
    "no gzip": Bad(INVALID, body=b"{}", encoding="gzip", named="gzip"),
    "half of a gzip": Bad(INVALID, body=gzip.compress(b"{}")[:-6], encoding="gzip"),
    "bytes after gzip": Bad(INVALID, body=gzip.compress(b"{}") + b"x", encoding="gzip"),
    "another compression": Bad(UNSUPPORTED, encoding="br", named="content-encoding"),
    "two compressions": Bad(UNSUPPORTED, encoding="gzip, gzip"),
    "a timeout that is no number": Bad(INVALID, headers=JSON | {"connect-timeout-ms": "1s"}, named="timeout"),
    "a negative timeout": Bad(INVALID, headers=JSON | {"connect-timeout-ms": "-1"}),
    "an empty timeout": Bad(INVALID, headers=JSON | {"connect-timeout-ms": ""}),
    "a timeout of 11 digits": Bad(INVALID, headers=JSON | {"connect-timeout-ms": "10000000000"}),
    "digits of another script": Bad(INVALID, headers=JSON | {"connect-timeout-ms": "١"}),
    "another version": Bad(INVALID, headers=JSON | {"connect-protocol-version": "2"}, named="version"),
    "a name that is no Unicode": Bad(INVALID, body=b'{"\\ud800": 1}', named="Unicode"),
    "metadata that is no base64": Bad(INVALID, headers=JSON | {"x-some-bin": "%%%"}, named="x-some-bin"),
}  # fmt: skip


async def test_bad_requests_are_refused_with_their_cause(
    edge: RunningEdge, caplog: pytest.LogCaptureFixture
) -> None:
    """And the gateway logs nothing but calls."""
    for name, bad in CASES.items():
        headers = edge.oncall | bad.headers | ({"content-encoding": bad.encoding} if bad.encoding else {})
        answer = await edge.send(bad.method, bad.path, bad.body, headers)
        assert answer.refusal == bad.refusal, name
        assert bad.named in answer.json["message"], name
        assert "Traceback" not in answer.body.decode()
        assert not any(header.lower().startswith("access-control") for header in answer.headers)
        if bad.refusal[0] == 405:
            assert answer.headers["allow"] in ("POST", "GET, HEAD")
        if bad.refusal[0] == 415:
            assert "application/" in answer.headers["accept-post"]
    assert {record.getMessage() for record in caplog.records} <= {"rpc.call"}


FRAME_CASES = {
    "no message": (b"", "unimplemented", "REQUEST_INVALID"),
    "part of a frame": (b"\0\0\0", "unimplemented", "REQUEST_INVALID"),
    "two messages": (frame(b"{}") * 2, "unimplemented", "REQUEST_INVALID"),
    "a short message": (frame(b"{}")[:-1], "invalid_argument", "REQUEST_INVALID"),
    "an end of stream": (frame(b"{}", 2), "invalid_argument", "REQUEST_INVALID"),
    "unknown flags": (frame(b"{}", 0x80), "invalid_argument", "REQUEST_INVALID"),
    "compression not named": (frame(gzip.compress(b"{}"), 1), "internal", "REQUEST_INVALID"),
    "a long message": (frame(b" " * 70_000), "resource_exhausted", "REQUEST_TOO_LARGE"),
    "the length of a long message": (b"\0\xff\xff\xff\xff{}", "resource_exhausted", "REQUEST_TOO_LARGE"),
    "no JSON": (frame(b"{"), "invalid_argument", "REQUEST_INVALID"),
}


async def test_bad_frames_are_refused_in_a_frame(edge: RunningEdge) -> None:
    for name, (body, code, reason) in FRAME_CASES.items():
        answer = await edge.send("POST", WATCH, body, edge.oncall | FRAMES)
        assert answer.status == 200
        assert answer.body[0] == 2
        error = json.loads(answer.body[5:])["error"]
        assert (error["code"], error_reason(error)) == (code, reason), name


RAW = {
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "an invented verb": b"BREW / HTTP/1.1\r\nHost: x\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a header without a name": b"POST / HTTP/1.1\r\nHost: x\r\n: x\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "a length and chunks": (
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
    "a line break in a header": b"POST / HTTP/1.1\r\nHost: x\r\nX: a\rb\r\n\r\n",
    "a long header": b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 60_000 + b"\r\n\r\n",
    "many headers": b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: x\r\n" * 200 + b"\r\n",
    "a long path": b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
}


async def test_malformed_http_is_refused_and_not_logged(
    edge: RunningEdge, caplog: pytest.LogCaptureFixture
) -> None:
    """Otherwise any client could fill the log."""
    for name, raw in RAW.items():
        status, body = await send_raw(edge, raw)
        assert (status, error_reason(json.loads(body))) == (400, "REQUEST_INVALID"), name
    assert caplog.records == []
    assert (await edge.send("GET", "/")).status == 200


async def test_bad_chunks_are_refused(edge: RunningEdge) -> None:
    head = f"POST {GET} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    status, body = await send_raw(edge, head.encode() + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n")
    assert status == 400
    assert error_reason(json.loads(body)) == "REQUEST_INVALID"


async def test_credentials_that_grpc_cannot_carry_are_refused(edge: RunningEdge) -> None:
    head = f"POST {GET} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n"
    status, body = await send_raw(edge, head.encode() + b"Authorization: Bearer \xff\r\n\r\n{}")
    assert status == 400
    assert error_reason(json.loads(body)) == "REQUEST_INVALID"


async def test_other_headers_that_grpc_cannot_carry_are_dropped(edge: RunningEdge, eks: SimulatedEks) -> None:
    """A proxy may add them."""
    eks.rollback("staging-1")
    headers = edge.oncall | {"x-city": "São Paulo", "x!y": "z"}
    answer = await edge.call("ListCancellableUpdates", {}, headers)
    assert answer.status == 200


@pytest.mark.parametrize("name", ["-bin", "bin", ".", "_", "-", "x--bin", "-x"])
async def test_headers_with_odd_names_are_taken(edge: RunningEdge, name: str) -> None:
    answer = await edge.call("ListCancellableUpdates", {}, edge.oncall | {name: "AA=="})
    assert answer.status == 200


@pytest.mark.parametrize(
    ("header", "values", "status"),
    [
        ("Connect-Protocol-Version", ("1", "2"), 400),
        ("Connect-Timeout-Ms", ("9000", "x"), 400),
        ("Content-Encoding", ("identity", "gzip"), 501),
    ],
)
async def test_a_header_that_comes_twice_is_refused(
    edge: RunningEdge, header: str, values: tuple[str, ...], status: int
) -> None:
    """As a proxy might read the other one."""
    head = f"POST {GET} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n"
    head += "".join(f"{header}: {value}\r\n" for value in values)
    answered, body = await send_raw(edge, f"{head}\r\n{{}}".encode())
    error = json.loads(body)
    assert (answered, error_reason(error)) == (status, "REQUEST_INVALID")
    assert header.lower() in error["message"]


async def test_a_client_of_http_1_0_gets_no_interim_answer(edge: RunningEdge) -> None:
    head = f"POST {GET} HTTP/1.0\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n"
    status, body = await send_raw(edge, head.encode() + b"Expect: 100-continue\r\n\r\n{}")
    assert (status, error_reason(json.loads(body))) == (401, "CREDENTIALS_MISSING")


async def test_body_is_awaited_when_the_client_asks_first(edge: RunningEdge) -> None:
    """As curl does before a long body."""
    head = f"POST {GET} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n"
    host, _, port = edge.url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(head.encode() + b"Expect: 100-continue\r\n\r\n")
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"{}")
    assert (await reader.readline()).startswith(b"HTTP/1.1 401 ")
    writer.close()


async def test_credentials_of_every_kind_are_judged_by_the_gateway(tmp_path: Path, eks: SimulatedEks) -> None:
    """The edge adds none, and takes none from cookies or the path."""
    async with run_edge(tmp_path, eks) as edge:
        token = edge.oncall["authorization"].removeprefix("Bearer ")
        missing = (401, "unauthenticated", "CREDENTIALS_MISSING")
        for headers in ({}, {"cookie": f"authorization=Bearer {token}"}, {"proxy-authorization": token}):
            assert (await edge.call("GetUpdate", {}, headers)).refusal == missing
        answer = await edge.send("POST", f"{GET}?access_token={token}", b"{}", JSON)
        assert answer.refusal == missing
        bad = await edge.call("GetUpdate", {}, {"authorization": "Bearer x"})
        assert bad.refusal == (401, "unauthenticated", "CREDENTIALS_INVALID")
        expired = await edge.call("GetUpdate", {}, edge.bearer("oncall", exp=1))
        assert expired.refusal == (401, "unauthenticated", "CREDENTIALS_EXPIRED")
        listed = await edge.call(f"{HISTORY}/ListCancellations", {}, {"authorization": ""})
        assert listed.refusal[0] == 401


FIELDS = ["cluster", "name", "updateId", "@type"]
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(FIELDS), inner),
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=200) | ANY_JSON.map(lambda value: json.dumps(value).encode()))
def test_any_body_becomes_a_message_or_a_refusal(body: bytes) -> None:
    for method in METHODS.values():
        try:
            raw = Json().read(method, body)
        except ConnectError as error:
            assert error_reason(error.to_json()) == "REQUEST_INVALID"  # noqa: PT017
        else:
            method.request.FromString(raw)


@given(st.dictionaries(st.text(), st.text(), max_size=5))
def test_any_headers_become_metadata_or_a_refusal(headers: dict[str, Any]) -> None:
    from multidict import CIMultiDict, CIMultiDictProxy  # noqa: PLC0415

    try:
        metadata = read_metadata(CIMultiDictProxy(CIMultiDict(headers)))
    except ConnectError as error:
        assert error_reason(error.to_json()) == "REQUEST_INVALID"  # noqa: PT017
    else:
        assert all(key == key.lower() and key.isascii() for key, _ in metadata)


async def send_raw(edge: RunningEdge, raw: bytes) -> tuple[int, bytes]:
    """Send bytes on a connection of their own; return the status and the body of the answer."""
    host, _, port = edge.url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(raw)
        async with asyncio.timeout(30):
            head = await reader.readuntil(b"\r\n\r\n")
            lines = head.decode().lower().split("\r\n")
            (length,) = [int(line.split(":")[1]) for line in lines if line.startswith("content-length")]
            return int(head.split()[1]), await reader.readexactly(length)
    finally:
        writer.transport.abort()
