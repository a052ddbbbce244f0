"""Frames that no gRPC client sends."""

from __future__ import annotations

from typing import Any

import pytest

from support.gateway import RunningGateway
from support.logs import capture_logs
from support.raw_http2 import connect_http2, frame_message

CANCEL = "/eksgateway.v1.UpdateService/CancelUpdate"


async def serves(gateway: RunningGateway) -> bool:
    """Whether a new connection is answered."""
    async with connect_http2(gateway.address) as http:
        answer = await http.answer(http.send(CANCEL, frame_message(b"")))
        return answer.reason == "CREDENTIALS_MISSING"


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("/no.such/Method", id="unknown"),
        pytest.param(b"/x/\xff\xfe", id="not UTF-8"),
        pytest.param(CANCEL.encode() + b"\x80", id="not UTF-8, after a known one"),
        pytest.param("x", id="no slash"),
        pytest.param("/", id="root"),
        pytest.param("/" + "x" * 4000, id="long"),
        pytest.param(CANCEL + "/", id="with a slash"),
        pytest.param(CANCEL.lower(), id="in lower case"),
    ],
)
async def test_path_that_is_not_utf8_is_refused(gateway: RunningGateway, path: str | bytes) -> None:
    """grpc.aio decodes it in its accept loop, and the server would end."""
    for _ in range(3):
        async with connect_http2(gateway.address) as http:
            answer = await http.answer(http.send(path, frame_message(b"")))
        assert (answer.status, answer.reason) == ("12", "METHOD_UNKNOWN")
    assert await serves(gateway)


# Core answers other frames without an ErrorInfo, see docs/connections.md.
ANSWERED: dict[str, tuple[dict[str, Any], str, str]] = {
    "another content type": ({"content_type": "text/plain"}, "16", "CREDENTIALS_MISSING"),
    "no content type": ({"content_type": ""}, "16", "CREDENTIALS_MISSING"),
    "no message": ({"body": None, "authorized": True}, "3", "REQUEST_INVALID"),
    "half a message": (
        {"body": frame_message(b"abc", length=100), "authorized": True},
        "3",
        "REQUEST_INVALID",
    ),
    "metadata too large": ({"x_large": "y" * 9000}, "8", "REQUEST_TOO_LARGE"),
    "metadata in Latin-1": ({"x_odd": "\udce9"}, "16", "CREDENTIALS_MISSING"),
}
BY_CORE: dict[str, tuple[dict[str, Any], str | None]] = {
    "not POST": ({"__method": "PUT"}, None),
    "no te": ({"te": ""}, None),
    "unknown compression": ({"body": frame_message(b"x", compressed=1), "grpc_encoding": "snappy"}, "13"),
    "compressed without saying how": ({"body": frame_message(b"x", compressed=1), "authorized": True}, "13"),
    "no gzip": (
        {"body": frame_message(b"x", compressed=1), "grpc_encoding": "gzip", "authorized": True},
        "13",
    ),
    "far too large": ({"body": frame_message(b"", length=1 << 30), "authorized": True}, "8"),
    "a deadline that is none": ({"grpc_timeout": "abc"}, "13"),
    "binary metadata that is not base64": ({"x_bin": "!!!"}, "13"),
}


async def ask(gateway: RunningGateway, *, authorized: bool = False, **changes: Any) -> Any:
    """The answer to a CancelUpdate with changes."""
    body = changes.pop("body", frame_message(b""))
    if authorized:
        changes["authorization"] = dict(gateway.oncall)["authorization"]
    async with connect_http2(gateway.address) as http:
        return await http.answer(http.send(CANCEL, body, **changes))


@pytest.mark.parametrize(("changes", "status", "reason"), ANSWERED.values(), ids=ANSWERED)
async def test_refusals_by_the_gateway_have_error_info(
    gateway: RunningGateway, changes: dict[str, Any], status: str, reason: str
) -> None:
    answer = await ask(gateway, **changes)
    assert (answer.status, answer.reason) == (status, reason)
    assert await serves(gateway)


@pytest.mark.parametrize(("changes", "status"), BY_CORE.values(), ids=BY_CORE)
async def test_refusals_by_core_do_not_reach_the_gateway(
    gateway: RunningGateway, changes: dict[str, Any], status: str | None
) -> None:
    """A status without ErrorInfo, or a reset stream; nothing is logged as an error."""
    with capture_logs() as logs:
        answer = await ask(gateway, **changes)
    assert (answer.status, answer.reason) == (status, "")
    assert answer.reset is not None or status is not None
    assert {line["log_level"] for line in logs} <= {"info"}
    assert gateway.eks.calls() == ()
    assert await serves(gateway)
